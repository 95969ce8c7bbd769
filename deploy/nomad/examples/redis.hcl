# A provider: whoever asks for `redis` with connect_to reaches it, and nobody else.

variable "datacenters" {
  type    = list(string)
  default = ["dc1"]
}

variable "image" {
  type    = string
  default = "redis:7"
}

job "redis" {
  datacenters = var.datacenters

  group "redis" {
    network {
      port "db" {
        to = 6379
      }
    }

    # Consumers on this host dial the container itself, those on others the port that Nomad chose.
    service {
      name = "redis"
      port = "db"

      check {
        type     = "tcp"
        interval = "10s"
        timeout  = "2s"
      }
    }

    task "redis" {
      driver = "docker"

      config {
        image = var.image
        ports = ["db"]
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
