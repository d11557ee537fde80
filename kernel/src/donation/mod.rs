//! Donors: who lends frames to cleancache, and takes them back. One file for each.

pub mod carve_out;
