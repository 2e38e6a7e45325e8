//! The words all Overlan programs share: frames, tickets, netmap and API types. Pure data, no I/O.
