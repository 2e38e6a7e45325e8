//! A running `up`, as other commands of this host see it: the control socket with its questions and
//! answers, streams that are carried for them, and measurements. It reads no command line.

pub mod socket;

pub mod carry;

pub mod perf;
