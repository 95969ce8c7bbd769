# What Steppe's control reads, and nothing else: this node's allocations with their jobs, the namespaces, and what services the jobs of
# those have.
# Nomad leaves out, silently, what a token may not read: with a namespace missing, its jobs have no grants.

namespace "*" {
  capabilities = ["list-jobs", "read-job"]
}

node {
  policy = "read"
}

agent {
  policy = "read"
}
