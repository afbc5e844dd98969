//! One file a subcommand. Data goes to stdout, talk to stderr.

pub mod publish;
pub mod serve;
pub mod watch;
