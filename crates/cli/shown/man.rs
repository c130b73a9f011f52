//! `man`: manual pages.

use super::visible;
use crate::exit::{self, Failure, Notes};
use clap::Command;
use clap_mangen::Man;
use pythia_convert::output::{AtomicFile, MadeFolders, check_target};
use std::path::PathBuf;

/// Print the manual page of this program, or write the pages of all its commands to a folder
///
/// The pages are roff; `man -l FILE` shows one. `man` finds them by name in ~/.cargo/share/man/man1, if ~/.cargo/bin is
/// in PATH.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for the pages, one for the program and one for each command
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace pages that are there
    #[arg(long, requires = "output")]
    force: bool,
}

/// The subcommand. `program` describes all commands and options.
pub(crate) fn run(args: &Args, program: &Command) -> Result<(), Failure> {
    let pages = pages(program)?;
    let Some(folder) = &args.output else { return exit::print_prose(&pages[0].text) };
    let made = MadeFolders::create(folder)?;
    let targets: Vec<PathBuf> = pages.iter().map(|page| folder.join(&page.name)).collect();
    for target in &targets {
        check_target(target, &[], args.force)?;
    }
    for (target, page) in targets.iter().zip(&pages) {
        AtomicFile::write(target, page.text.as_bytes(), args.force, &Notes { quiet: false })?;
    }
    Ok(made.keep()?)
}

/// A page and its name as a file, `pythia-run-generate.1`.
struct Page {
    name: String,
    text: String,
}

/// The page of the program, then those of its commands.
fn pages(program: &Command) -> Result<Vec<Page>, Failure> {
    // `help` has no page: it shows what the others say.
    let mut program = visible(program).disable_help_subcommand(true);
    program.build();
    let source = format!("{} {}", program.get_name(), program.get_version().unwrap_or_default());
    let mut pages = Vec::new();
    add_pages(&program, &source, &mut pages)?;
    Ok(pages)
}

/// Appends the page of `command`, then those of its own commands. `source` is for the last line of a page.
fn add_pages(command: &Command, source: &str, pages: &mut Vec<Page>) -> Result<(), Failure> {
    // An empty date would be left out, and the next field would take its place.
    let man = Man::new(command.clone()).date(" ").source(source).manual("User Commands");
    let name = man.get_filename();
    let mut text = Vec::new();
    man.render(&mut text).map_err(|e| Failure::io(format_args!("{name}: {e}")))?;
    pages.push(Page { name, text: String::from_utf8_lossy(&text).into_owned() });
    command.get_subcommands().try_for_each(|inner| add_pages(inner, source, pages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Asserts that `command` has a page, with its options and commands; `path` is its name with those above it.
    fn has_a_page(pages: &[Page], command: &Command, path: &str) {
        let page = pages.iter().find(|page| page.name == format!("{path}.1")).expect(path);
        let text = page.text.replace("\\-", "-").replace("\\*(Aq", "'");
        assert!(text.contains(&format!(".TH {path} 1 \" \" \"")), "{text}");
        assert!(text.contains(&format!("\n{path} - {}\n", command.get_about().unwrap())), "{text}");
        for long in command.get_opts().filter_map(clap::Arg::get_long) {
            assert!(text.contains(&format!("\\fB--{long}\\fR")), "{path}: --{long}");
        }
        for inner in command.get_subcommands() {
            let path = format!("{path}-{}", inner.get_name());
            assert!(text.contains(&format!("\n{path}(1)\n")), "{path}");
            has_a_page(pages, inner, &path);
        }
    }

    #[test]
    fn every_command_has_a_page_with_its_options() {
        for program in [crate::run::Args::command(), crate::quant::Args::command()] {
            let pages = pages(&program).ok().unwrap();
            has_a_page(&pages, &visible(&program), program.get_name());
            assert!(!pages.iter().any(|page| page.name.contains("measure-level") || page.name.contains("help")));
            assert!(!pages[0].text.replace("\\-", "-").contains("measure-level"));
        }
    }
}
