variable "repository" {
  description = "Where the hosts get didmpc from: a URL that git can clone without a password."
  type        = string

  validation {
    condition     = startswith(var.repository, "https://")
    error_message = "It must be an https:// URL: hosts have no keys for others."
  }
}

variable "revision" {
  description = "The commit to measure: the one that the bench on your machine is from."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{40}$", var.revision))
    error_message = "It must be a whole commit id of 40 hexadecimal digits (git rev-parse HEAD)."
  }
}

variable "ssh_public_key" {
  description = "File with the public key that you log in with."
  type        = string
  default     = "~/.ssh/id_ed25519.pub"
}

variable "admin_addresses" {
  description = "Networks that may log in: the address of your machine, as 192.0.2.7/32."
  type        = list(string)

  validation {
    condition     = length(var.admin_addresses) > 0 && !contains(var.admin_addresses, "0.0.0.0/0")
    error_message = "Name your own networks; the whole Internet is not one of them."
  }
}

variable "parties" {
  description = "Where the parties stand, one host each."
  type        = list(string)
  default     = ["fsn1", "hel1", "ash"]
}

variable "servers" {
  description = "Where the public servers stand; two mediators need two."
  type        = list(string)
  default     = ["nbg1", "hel1"]
}

variable "size" {
  description = "Kind of machine, of all hosts."
  type        = string
  default     = "cpx21"
}

variable "image" {
  description = "System of all hosts: Debian 12 or newer."
  type        = string
  default     = "debian-12"
}
