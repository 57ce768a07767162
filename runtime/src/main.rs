//! The command `jupiter`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
