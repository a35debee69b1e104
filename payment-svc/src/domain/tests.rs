//! Property and table tests of the rules.
