"""Networks: modes, addresses, links, firewall, names."""
