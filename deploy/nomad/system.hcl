# Steppe on every client: one group a component, so that each is upgraded alone.
#
#   nomad job run deploy/nomad/system.hcl                              install, or go back to these defaults
#   nomad job run -var proxy_version=1.3.0 deploy/nomad/system.hcl     upgrade the proxy, and nothing else
#
# Each run must be given all variables that differ from the defaults: put them into a file (-var-file).
# The Docker plugin of each client must allow what the README's first step says. Nomad 1.0 or later.

variable "datacenters" {
  description = "Where to run. Nomad before 1.5 does not know \"*\": name them there."
  type        = list(string)
  default     = ["*"]
}

variable "nodes" {
  description = "A regular expression: only clients with such a name get Steppe. Widen it to roll out node by node."
  type        = string
  default     = ""
}

# Versions of Nomad differ in what a limit does to a system job: before 1.11 the next clients follow after `stagger`, whatever
# became of the first, and there were versions that left them on the old one; from 1.11 on the roll-out ends at the first
# alloc that does not become healthy. With 0, all clients are told at once and none is left behind, and new connections
# don't notice: the kernel carries them past a proxy that is away.
variable "max_parallel" {
  description = "How many clients replace a component at the same time; 0 is all."
  type        = number
  default     = 0
}

variable "control_image" {
  type    = string
  default = "steppe-control"
}

variable "control_version" {
  type    = string
  default = "0.1.0"
}

variable "proxy_image" {
  type    = string
  default = "steppe-proxy"
}

variable "proxy_version" {
  type    = string
  default = "0.1.0"
}

variable "netfilter_agent_image" {
  type    = string
  default = "steppe-netfilter-agent"
}

variable "netfilter_agent_version" {
  type    = string
  default = "0.1.0"
}

variable "dns_image" {
  type    = string
  default = "steppe-dns"
}

# Two of dns share the port on each client: give the new version to one, then to the other, and no question is lost.
variable "dns_a_version" {
  type    = string
  default = "0.1.0"
}

variable "dns_b_version" {
  type    = string
  default = "0.1.0"
}

variable "consul_address" {
  description = "CONSUL_HTTP_ADDR, as seen from the host; empty: there is no Consul."
  type        = string
  default     = "http://127.0.0.1:8500"
}

variable "nomad_address" {
  description = "NOMAD_ADDR, as seen from the host; empty: Nomad is no source."
  type        = string
  default     = "http://127.0.0.1:4646"
}

variable "control_env" {
  description = "More variables for control: CONSUL_CACERT, NOMAD_CACERT, RUST_LOG, … Who may read the job can read them."
  type        = map(string)
  default     = {}
}

variable "secrets" {
  description = "Nomad variable whose items become control's environment, such as nomad/jobs/steppe with NOMAD_TOKEN. Nomad 1.4 or later."
  type        = string
  default     = ""
}

variable "config_dir" {
  description = "Directory of the host with certificates and token files, seen by control under the same name; empty: none."
  type        = string
  default     = ""
}

variable "docker_socket" {
  type    = string
  default = "/var/run/docker.sock"
}

variable "docker_containers" {
  description = "Docker's directory of containers: below its data-root. control writes their resolv.conf, so that they ask dns."
  type        = string
  default     = "/var/lib/docker/containers"
}

# Nomad has kept them under /var/run since 1.8.8 and 1.9.4. What is missing Docker makes, empty.
variable "cni_dirs" {
  description = "Where CNI keeps the addresses that it gave out, for Nomad's bridge mode; none: Nomad is asked alone."
  type        = list(string)
  default     = ["/var/run/cni", "/var/lib/cni"]
}

variable "service_cidr" {
  description = "Where virtual IPs are chosen from."
  type        = string
  default     = "247.0.0.0/8"
}

# Nomad sends SIGKILL after kill_timeout, of which a client grants max_kill_timeout at the most (30 s unless its
# configuration says more). Five seconds are for leading new connections past the proxy first.
variable "drain_seconds" {
  description = "How long open connections may go on when the proxy is replaced; beyond 25, raise max_kill_timeout of the clients."
  type        = number
  default     = 25
}

variable "proxy_memory" {
  type    = number
  default = 256
}

job "steppe" {
  datacenters = var.datacenters
  type        = "system"
  priority    = 90

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

  update {
    max_parallel = var.max_parallel
    stagger      = "30s"
    health_check = "task_states"
  }

  # uid 0 for Docker's socket, with no capability at all. It also gives /run/steppe to the group when Docker has made
  # it; until then the agents are started again and again.
  group "control" {
    # Never give up: whatever is wrong, a host must come back by itself when it is right again.
    restart {
      attempts = 20
      interval = "1m"
      delay    = "2s"
      mode     = "delay"
    }

    ephemeral_disk {
      size = 50
    }

    task "control" {
      driver       = "docker"
      user         = "0:60700"
      kill_signal  = "SIGTERM"
      kill_timeout = "5s"

      config {
        image           = "${var.control_image}:${var.control_version}"
        network_mode    = "host"
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        readonly_rootfs = true
        # A packaged Docker's socket is systemd's and outlives the daemon, so the file may be mounted.
        volumes = concat(
          ["/run/steppe:/run/steppe", "${var.docker_socket}:/var/run/docker.sock"],
          ["${var.docker_containers}:${var.docker_containers}"],
          [for dir in var.cni_dirs : "${dir}:${dir}:ro"],
          var.config_dir == "" ? [] : ["${var.config_dir}:${var.config_dir}:ro"],
        )
      }

      env = merge({
        CONSUL_HTTP_ADDR     = var.consul_address
        NOMAD_ADDR           = var.nomad_address
        STEPPE_SERVICE_CIDR  = var.service_cidr
      }, var.control_env)

      dynamic "template" {
        for_each = var.secrets == "" ? [] : [var.secrets]
        content {
          data        = "{{ with nomadVar \"${template.value}\" }}{{ range .Tuples }}{{ .K }}={{ .V }}\n{{ end }}{{ end }}"
          destination = "secrets/control.env"
          env         = true
        }
      }

      resources {
        cpu    = 100
        memory = 128
      }

      logs {
        max_files     = 3
        max_file_size = 10
      }

      # What Consul shows. It needs no port: Nomad runs it in the container.
      dynamic "service" {
        for_each = var.consul_address == "" ? [] : ["steppe-control"]
        content {
          name = service.value
          check {
            name     = "ready"
            type     = "script"
            command  = "/usr/bin/steppe"
            args     = ["ready", "control"]
            interval = "30s"
            timeout  = "5s"
          }
        }
      }
    }
  }

  group "proxy" {
    restart {
      attempts = 20
      interval = "1m"
      delay    = "2s"
      mode     = "delay"
    }

    ephemeral_disk {
      size = 50
    }

    task "proxy" {
      driver       = "docker"
      user         = "60701:60700"
      kill_signal  = "SIGTERM"
      kill_timeout = "${var.drain_seconds + 5}s"

      config {
        image           = "${var.proxy_image}:${var.proxy_version}"
        network_mode    = "host"
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        readonly_rootfs = true
        volumes         = ["/run/steppe:/run/steppe"]
      }

      env {
        STEPPE_DRAIN_TIMEOUT = "${var.drain_seconds}s"
      }

      resources {
        cpu    = 500
        memory = var.proxy_memory
      }

      logs {
        max_files     = 3
        max_file_size = 10
      }

      dynamic "service" {
        for_each = var.consul_address == "" ? [] : ["steppe-proxy"]
        content {
          name = service.value
          check {
            name     = "ready"
            type     = "script"
            command  = "/usr/bin/steppe"
            args     = ["ready", "proxy"]
            interval = "30s"
            timeout  = "5s"
          }
        }
      }
    }
  }

  group "netfilter-agent" {
    restart {
      attempts = 20
      interval = "1m"
      delay    = "2s"
      mode     = "delay"
    }

    ephemeral_disk {
      size = 50
    }

    # The program carries its one capability in its file; `no-new-privileges` would keep it from having it.
    task "netfilter-agent" {
      driver       = "docker"
      user         = "60702:60700"
      kill_signal  = "SIGTERM"
      kill_timeout = "5s"

      config {
        image           = "${var.netfilter_agent_image}:${var.netfilter_agent_version}"
        network_mode    = "host"
        cap_drop        = ["all"]
        cap_add         = ["net_admin"]
        readonly_rootfs = true
        volumes         = ["/run/steppe:/run/steppe"]
      }

      env {
        STEPPE_SERVICE_CIDR = var.service_cidr
      }

      resources {
        cpu    = 100
        memory = 128
      }

      logs {
        max_files     = 3
        max_file_size = 10
      }

      dynamic "service" {
        for_each = var.consul_address == "" ? [] : ["steppe-netfilter-agent"]
        content {
          name = service.value
          check {
            name     = "ready"
            type     = "script"
            command  = "/usr/bin/steppe"
            args     = ["ready", "netfilter-agent"]
            interval = "30s"
            timeout  = "5s"
          }
        }
      }
    }
  }

  # The groups dns-a and dns-b.
  dynamic "group" {
    for_each = { a = var.dns_a_version, b = var.dns_b_version }
    iterator = dns
    labels   = ["dns-${dns.key}"]

    content {
      restart {
        attempts = 20
        interval = "1m"
        delay    = "2s"
        mode     = "delay"
      }

      ephemeral_disk {
        size = 50
      }

      # The program carries its one capability in its file, as the netfilter-agent's does.
      task "dns" {
        driver       = "docker"
        user         = "60703:60700"
        kill_signal  = "SIGTERM"
        kill_timeout = "6s"

        config {
          image           = "${var.dns_image}:${dns.value}"
          args            = ["--instance", dns.key]
          network_mode    = "host"
          cap_drop        = ["all"]
          cap_add         = ["net_bind_service"]
          readonly_rootfs = true
          # The host's resolv.conf, and what it may be a link to: a container's own is a copy that nobody renews.
          volumes = ["/run/steppe:/run/steppe", "/etc:/host/etc:ro", "/run:/host/run:ro"]
        }

        env {
          STEPPE_RESOLV_CONF  = "/host/etc/resolv.conf"
          STEPPE_SERVICE_CIDR = var.service_cidr
        }

        resources {
          cpu    = 100
          memory = 64
        }

        logs {
          max_files     = 3
          max_file_size = 10
        }

        dynamic "service" {
          for_each = var.consul_address == "" ? [] : ["steppe-dns-${dns.key}"]
          content {
            name = service.value
            check {
              name     = "ready"
              type     = "script"
              command  = "/usr/bin/steppe"
              args     = ["ready", "dns-${dns.key}"]
              interval = "30s"
              timeout  = "5s"
            }
          }
        }
      }
    }
  }
}
