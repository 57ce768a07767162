//! The command `jupiter`.

mod cli;

fn main() -> ! {
    cli::main()
}
