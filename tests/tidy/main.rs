//! The laws of this repository that a search of its text can check. Each room holds its laws as
//! data at its top.

mod crates;
mod documents;
mod figures;
mod files;
mod layers;
mod limits;
mod sources;
mod words;
