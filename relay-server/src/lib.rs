//! The relay: accepts TLS tunnels, forwards sealed frames between members of a network, reads none of them.
