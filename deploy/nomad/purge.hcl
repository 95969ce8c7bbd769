# Removes every trace of Steppe from every client, once; containers run on, and their resolv.conf is Docker's again. Stop Steppe first:
#
#   nomad job stop -purge steppe
#   nomad job run deploy/nomad/purge.hcl        with the image, version, service_cidr and docker_containers that system.hcl was given
#   nomad job status steppe-purge               each alloc: complete; `nomad alloc logs ALLOC` says what was done
#   nomad job stop -purge steppe-purge
#
# Nomad before 1.2 has no sysbatch jobs. There, run on each client what this job does; where Docker's data-root is another, its
# directory of containers comes first in the second -v:
#
#   docker run --rm --network host --user 0:60700 --cap-drop all --cap-add net_admin -v /run:/host/run \
#     -v /var/lib/docker/containers:/var/lib/docker/containers --entrypoint /usr/bin/steppe steppe-netfilter-agent:0.1.0 uninstall --run-dir /host/run/steppe

variable "datacenters" {
  description = "Where to run. Nomad before 1.5 does not know \"*\": name them there."
  type        = list(string)
  default     = ["*"]
}

variable "nodes" {
  description = "A regular expression: only clients with such a name are cleaned."
  type        = string
  default     = ""
}

variable "netfilter_agent_image" {
  type    = string
  default = "steppe-netfilter-agent"
}

variable "netfilter_agent_version" {
  type    = string
  default = "0.1.0"
}

variable "service_cidr" {
  type    = string
  default = "247.0.0.0/8"
}

variable "docker_containers" {
  description = "Docker's directory of containers: below its data-root. Their resolv.conf gets back what Docker had written."
  type        = string
  default     = "/var/lib/docker/containers"
}

job "steppe-purge" {
  datacenters = var.datacenters
  type        = "sysbatch"

  dynamic "constraint" {
    for_each = var.nodes == "" ? [] : [var.nodes]
    content {
      attribute = "${node.unique.name}"
      operator  = "regexp"
      value     = constraint.value
    }
  }

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }

  group "purge" {
    # A proxy that was just stopped may still be draining, and nothing is removed under a part that runs.
    restart {
      attempts = 12
      interval = "10m"
      delay    = "5s"
      mode     = "fail"
    }

    # The netfilter-agent's image, because that program removes what it put. /run is mounted, not /run/steppe, since a
    # directory can't be removed from within its own mount.
    task "purge" {
      driver = "docker"
      user   = "0:60700"

      config {
        image           = "${var.netfilter_agent_image}:${var.netfilter_agent_version}"
        entrypoint      = ["/usr/bin/steppe"]
        args            = ["uninstall", "--run-dir", "/host/run/steppe"]
        network_mode    = "host"
        cap_drop        = ["all"]
        cap_add         = ["net_admin"]
        readonly_rootfs = true
        volumes         = ["/run:/host/run", "${var.docker_containers}:${var.docker_containers}"]
      }

      env {
        STEPPE_SERVICE_CIDR   = var.service_cidr
        STEPPE_CONTAINERS_DIR = var.docker_containers
      }

      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
