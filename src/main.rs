//! Arguments, settings, exit code.

fn main() {}
