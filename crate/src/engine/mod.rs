//! Rows in, sampled tokens out.
