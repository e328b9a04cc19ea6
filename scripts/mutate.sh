# shellcheck shell=bash
# Breaks the rules of the inventory on purpose, one place at a time, and asks its tests to notice.
# A change that no test notices is a gap in the tests: the step fails and names it.
#
# The domain imports nothing of ours, so its files make a crate of their own that builds in
# seconds; the rest of the house is not rebuilt a few hundred times. Seeds are fixed, so that the
# verdict is the same every time. What is left alone, and why: .cargo/mutants.toml.

# check_mutants [ARGS]: ARGS go to cargo-mutants, e.g. --list or --re Inventory::promote.
check_mutants() {
  local house=$ROOT/target/rules
  if ! cargo mutants --version >/dev/null 2>&1; then
    say 'installing cargo-mutants (once, a few minutes)'
    env -u CARGO_TARGET_DIR cargo install --locked --quiet cargo-mutants ||
      die 'cargo-mutants is missing and cannot be installed: cargo install --locked cargo-mutants'
  fi
  rm -rf "$house/src"
  mkdir -p "$house/src" "$house/.cargo"
  cp -r src/domain "$house/src/"
  cp .cargo/mutants.toml "$house/.cargo/"
  cp Cargo.lock "$house/"
  printf '//! The rules alone.\npub mod domain;\n' >"$house/src/lib.rs"
  {
    printf '[package]\nname = "rules"\nversion = "0.0.0"\nedition = "2024"\n\n[workspace]\n'
    printf '\n[dependencies]\n'
    grep -E '^(jiff|proptest|uuid) = ' Cargo.toml
    # Debug assertions and overflow checks stay on: a panic is noticed, too.
    printf '\n[profile.dev]\ndebug = false\n[profile.dev.package."*"]\nopt-level = 2\n'
  } >"$house/Cargo.toml"
  env -u CARGO_TARGET_DIR \
    PROPTEST_RNG_SEED=1 PROPTEST_DISABLE_FAILURE_PERSISTENCE=true PROPTEST_MAX_SHRINK_ITERS=0 \
    cargo mutants --dir "$house" --output "$house" --in-place --colors never \
    --file 'src/domain/inventory/*.rs' "$@" -- --lib domain::inventory
}
