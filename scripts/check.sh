# shellcheck shell=bash
# What ./dev check runs. Every step is tried, even after one has failed, and the end says which.

check_all() {
  local failed=()
  ensure_installed toolchain
  step format cargo fmt --all --check
  step lints cargo clippy --all-targets --features faults -- -D warnings
  step tidy cargo test --quiet --features faults --test tidy
  step docs env RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --quiet
  step dependencies check_dependencies
  step scripts check_scripts
  ((${#failed[@]} == 0)) || die "failed: ${failed[*]}"
  good 'all checks passed'
}

step() {
  local name=$1
  shift
  say "$BOLD== $name$PLAIN"
  # In a subshell, so that a `die` inside ends the step only.
  ("$@") || failed+=("$name")
}

check_dependencies() {
  local said
  if ! cargo deny --version >/dev/null 2>&1; then
    say 'installing cargo-deny (once, a few minutes)'
    env -u CARGO_TARGET_DIR cargo install --locked --quiet cargo-deny ||
      die 'cargo-deny is missing and cannot be installed: cargo install --locked cargo-deny'
  fi
  cargo deny --log-level error check --hide-inclusion-graph bans licenses sources || return 1
  # The advisories are a git repository elsewhere; a desk without a network is not a fault.
  said=$(cargo deny --log-level error --color never check --hide-inclusion-graph advisories 2>&1) &&
    return 0
  if [[ $said =~ (failed to|unable to|could not)\ (fetch|clone|load|acquire|update|connect) ]]; then
    say 'advisories: not checked, the database cannot be reached from here'
    return 0
  fi
  printf '%s\n' "$said" >&2
  return 1
}

check_scripts() {
  ensure_installed shellcheck
  shellcheck --external-sources dev .ci/run
}

# Kept for the long runs: many more random histories for the property tests, and the proof that
# they notice a broken rule; and fuzzing.
check_long() {
  # shellcheck source=scripts/mutate.sh
  . scripts/mutate.sh
  local failed=()
  step 'property tests, 20000 cases' \
    env PROPTEST_CASES=20000 cargo test --lib --features faults
  step 'mutants of the rules' check_mutants
  step 'fuzzing, a minute a target' check_fuzzing
  ((${#failed[@]} == 0)) || die "failed: ${failed[*]}"
  good 'all long checks passed'
}

check_fuzzing() {
  if ! cargo +nightly --version >/dev/null 2>&1 || ! cargo fuzz --version >/dev/null 2>&1; then
    say 'skipped: it needs a nightly toolchain and cargo-fuzz' \
      '(rustup toolchain install nightly; cargo install --locked cargo-fuzz)'
    return 0
  fi
  mkdir -p fuzz/corpus/frame
  cargo +nightly fuzz run frame fuzz/corpus/frame fuzz/seeds/frame -- \
    -max_total_time=60 -max_len=16384
}
