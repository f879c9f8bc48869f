# Hosts at Hetzner Cloud for `didmpc bench --hosts`. The token is read from the environment: HCLOUD_TOKEN.

terraform {
  required_version = ">= 1.5"
  required_providers {
    hcloud = {
      source  = "hetznercloud/hcloud"
      version = "~> 1.45"
    }
    tls = {
      source  = "hashicorp/tls"
      version = "~> 4.0"
    }
  }
}

provider "hcloud" {}

locals {
  servers = { for number, place in var.servers : "vps${number == 0 ? "" : number}" => place }
  parties = { for number, place in var.parties : "party${number}" => place }
  hosts   = merge(local.servers, local.parties)
}

# Host keys are made here, so that they are known before anybody logs in. They are in the state of Terraform and in
# the user data of each host: keep the state to yourself, and destroy the hosts when you have measured.
resource "tls_private_key" "host" {
  for_each  = local.hosts
  algorithm = "ED25519"
}

resource "hcloud_ssh_key" "admin" {
  name       = "didmpc-bench"
  public_key = file(pathexpand(var.ssh_public_key))
}

resource "hcloud_firewall" "hosts" {
  name = "didmpc-bench"

  apply_to {
    label_selector = "fleet=didmpc-bench"
  }

  rule {
    description = "SSH of whoever measures"
    direction   = "in"
    protocol    = "tcp"
    port        = "22"
    source_ips  = var.admin_addresses
  }

  dynamic "rule" {
    for_each = ["tcp", "udp"]
    content {
      description = "Hosts of the fleet among each other"
      direction   = "in"
      protocol    = rule.value
      port        = "1-65535"
      source_ips  = [for host in hcloud_server.host : "${host.ipv4_address}/32"]
    }
  }

  dynamic "rule" {
    for_each = ["icmp", "esp"]
    content {
      description = "Hosts of the fleet among each other"
      direction   = "in"
      protocol    = rule.value
      source_ips  = [for host in hcloud_server.host : "${host.ipv4_address}/32"]
    }
  }
}

resource "hcloud_server" "host" {
  for_each    = local.hosts
  name        = "didmpc-${each.key}"
  location    = each.value
  server_type = var.size
  image       = var.image
  ssh_keys    = [hcloud_ssh_key.admin.id]
  labels      = { fleet = "didmpc-bench" }

  user_data = templatefile("${path.module}/../cloud-init.yaml", {
    host_key        = trimspace(tls_private_key.host[each.key].private_key_openssh)
    host_key_public = trimspace(tls_private_key.host[each.key].public_key_openssh)
    repository      = var.repository
    revision        = var.revision
  })
}

locals {
  address = { for name, host in hcloud_server.host : name => host.ipv4_address }
}
