//! Completions for a shell and manual pages, made from the command line's definition.

use anyhow::Result;
use clap::Command;
use clap_complete::Shell;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Print what a shell needs to complete the command line.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  source <(tickcast completions bash)
  tickcast completions zsh > ~/.zfunc/_tickcast
  tickcast completions fish > ~/.config/fish/completions/tickcast.fish")]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: Shell,
}

/// Print a manual page.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  tickcast man | man -l -
  tickcast man watch > ~/.local/share/man/man1/tickcast-watch.1")]
pub struct ManArgs {
    /// Of which subcommand; without it, of all of them together
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

/// `command`: the whole command line.
///
/// # Errors
/// If standard output cannot be written.
pub fn completions(args: &CompletionsArgs, mut command: Command) -> Result<ExitCode> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    print(&script)
}

/// `command`: the whole command line.
///
/// # Errors
/// If standard output cannot be written.
pub fn man(args: &ManArgs, mut command: Command) -> Result<ExitCode> {
    command.build();
    let page = match &args.command {
        None => command,
        Some(name) => {
            let Some(found) = command.find_subcommand(name) else {
                let names: Vec<&str> = command
                    .get_subcommands()
                    .filter(|subcommand| !subcommand.is_hide_set())
                    .map(Command::get_name)
                    .collect();
                say!("tickcast: there is no command {name:?}: there are {}", names.join(", "));
                return Ok(ExitCode::from(2));
            };
            let title = format!("tickcast-{name}");
            found.clone().display_name(title)
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    print(&text)
}

/// A closed pipe is no error: its reader has seen enough.
fn print(text: &[u8]) -> Result<ExitCode> {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
