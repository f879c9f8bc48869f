# Hosts at DigitalOcean for `didmpc bench --hosts`. The token is read from the environment: DIGITALOCEAN_TOKEN.

terraform {
  required_version = ">= 1.5"
  required_providers {
    digitalocean = {
      source  = "digitalocean/digitalocean"
      version = "~> 2.40"
    }
    tls = {
      source  = "hashicorp/tls"
      version = "~> 4.0"
    }
  }
}

provider "digitalocean" {}

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

resource "digitalocean_ssh_key" "admin" {
  name       = "didmpc-bench"
  public_key = file(pathexpand(var.ssh_public_key))
}

resource "digitalocean_tag" "fleet" {
  name = "didmpc-bench"
}

resource "digitalocean_droplet" "host" {
  for_each = local.hosts
  name     = "didmpc-${each.key}"
  region   = each.value
  size     = var.size
  image    = var.image
  ssh_keys = [digitalocean_ssh_key.admin.fingerprint]
  tags     = [digitalocean_tag.fleet.id]

  user_data = templatefile("${path.module}/../cloud-init.yaml", {
    host_key        = trimspace(tls_private_key.host[each.key].private_key_openssh)
    host_key_public = trimspace(tls_private_key.host[each.key].public_key_openssh)
    repository      = var.repository
    revision        = var.revision
  })
}

resource "digitalocean_firewall" "hosts" {
  name = "didmpc-bench"
  tags = [digitalocean_tag.fleet.id]

  inbound_rule {
    protocol         = "tcp"
    port_range       = "22"
    source_addresses = var.admin_addresses
  }

  # Hosts of the fleet among each other. DigitalOcean's firewalls know no ESP: IPsec goes in UDP here.
  dynamic "inbound_rule" {
    for_each = ["tcp", "udp"]
    content {
      protocol    = inbound_rule.value
      port_range  = "1-65535"
      source_tags = [digitalocean_tag.fleet.id]
    }
  }

  inbound_rule {
    protocol    = "icmp"
    source_tags = [digitalocean_tag.fleet.id]
  }

  dynamic "outbound_rule" {
    for_each = ["tcp", "udp"]
    content {
      protocol              = outbound_rule.value
      port_range            = "1-65535"
      destination_addresses = ["0.0.0.0/0", "::/0"]
    }
  }

  outbound_rule {
    protocol              = "icmp"
    destination_addresses = ["0.0.0.0/0", "::/0"]
  }
}

locals {
  address = { for name, host in digitalocean_droplet.host : name => host.ipv4_address }
}
