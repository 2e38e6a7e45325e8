//! The laws of this repository that a search of its text can check. Each room holds its laws as
//! data at its top.

mod bans;
mod crates;
mod documents;
mod figures;
mod files;
mod layers;
mod limits;
mod manifests;
mod sources;
mod words;
