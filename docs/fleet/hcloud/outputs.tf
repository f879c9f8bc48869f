output "hosts" {
  description = "The file of hosts: terraform output -raw hosts > hosts.toml"
  value = templatefile("${path.module}/../hosts.toml.tftpl", {
    name    = "hcloud"
    servers = [for name, place in local.servers : { address = local.address[name], label = place }]
    parties = [for name, place in local.parties : { address = local.address[name], label = place }]
  })
}

output "known_hosts" {
  description = "Their host keys: terraform output -raw known_hosts > known_hosts"
  value = join("", [
    for name, key in tls_private_key.host : "${local.address[name]} ${trimspace(key.public_key_openssh)}\n"
  ])
}
