# A consumer: the tag is all that it takes. It counts in redis, and its log shows the count.
#
#   nomad job run -var redis=ADDRESS deploy/nomad/examples/web.hcl
#
# ADDRESS is redis's virtual IP, as `steppe services` shows it; it is the same on every host.

variable "datacenters" {
  type    = list(string)
  default = ["dc1"]
}

variable "image" {
  type    = string
  default = "redis:7"
}

variable "redis" {
  description = "Where redis is: its virtual IP."
  type        = string
}

job "web" {
  datacenters = var.datacenters

  group "web" {
    service {
      name = "web"
      tags = ["connect_to=redis:6379"]
    }

    task "web" {
      driver = "docker"

      config {
        image   = var.image
        command = "sh"
        args    = ["-c", "while sleep 1; do redis-cli -h $REDIS incr hits; done"]
      }

      env {
        REDIS = var.redis
      }

      resources {
        cpu    = 50
        memory = 32
      }
    }
  }
}
