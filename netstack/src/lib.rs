//! IP packets to byte streams and back: a userspace TCP/IP stack of independent flows over smoltcp.
