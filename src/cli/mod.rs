//! One file a subcommand. Data goes to stdout, talk to stderr.

pub mod bench;
pub mod publish;
pub mod reading;
pub mod scenario;
pub mod serve;
pub mod watch;
