//! Raises hosts for a person to play with, and removes them at the end of its input (Ctrl-D, or Ctrl-C).

use steppe_testbed::Cluster;

fn main() {
    let count = std::env::args().nth(1).map_or(Ok(2), |word| word.parse());
    let Ok(count @ 1..=26) = count else {
        eprintln!("usage: raise [HOSTS]    between 1 and 26, 2 without saying");
        std::process::exit(2);
    };
    let cluster = Cluster::hosts(count).start();
    print!("{}", cluster.how_to_enter());
    println!("Ctrl-D ends it");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
}
