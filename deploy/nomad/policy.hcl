# What Steppe's control reads, and nothing else: this node's allocations with their jobs, in every namespace.
# Nomad leaves out, silently, what a token may not read: with a namespace missing, its jobs have no grants.

namespace "*" {
  capabilities = ["read-job"]
}

node {
  policy = "read"
}

agent {
  policy = "read"
}
