//! Two stacks back to back in virtual time.

mod closing;
mod fairness;
mod garbage;
mod memory;
mod net;
mod opening;
mod paths;
mod resets;
mod rights;
mod scale;
mod small;
mod streams;
