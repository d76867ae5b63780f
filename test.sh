#!/usr/bin/env bash
# Builds everything once, strictly, and runs all tests. Ends with one line: N passed, N failed, N skipped.
#
#   ./test.sh                       all test projects
#   ./test.sh Unit Architecture     only these
#
# Installs what is lacking when it may; otherwise the tests that need it are skipped and the reasons are printed.
# Fails (exit 1) on any failed test or check, when nothing ran, and when the tests left a process or a memory file behind.
set -uo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
cd "$root" || exit 1
# shellcheck source=deploy/dotnet.sh
. "$root/deploy/dotnet.sh"
export LC_ALL=C

passed=0 failed=0 skipped=0 failures=
started=$SECONDS
projects=("$@")
[ ${#projects[@]} -gt 0 ] || projects=(Unit Architecture Simulation Integration Chaos)
# The bound of one project, in seconds; a single test that hangs is named and ended before that.
project_seconds=1500 hang_seconds=240
[ "${FABRIC_CHAOS:-}" != all ] || project_seconds=5400 # the whole grid of kills

# Everything that the tests put on disk goes below this directory. The path is short: Unix sockets allow 107 characters.
work=$(mktemp -d /tmp/ft.XXXXXX) || exit 1
chmod 711 "$work" # the tests' PostgreSQL does not run as root, and must pass
run_id=$(cat /proc/sys/kernel/random/uuid)
declare -A running=() # process of each thing that runs in the background, by its name
cleanup() {
  end_build
  rm -rf "$work"
}
# What runs in the background is in a process group of its own (timeout makes it): an interrupt must be passed on, and what it started ended.
interrupted() {
  trap '' INT TERM
  if [ ${#running[@]} -gt 0 ]; then
    kill -TERM "${running[@]}" 2>/dev/null
    wait "${running[@]}" 2>/dev/null
    leftover_processes 2>/dev/null | while read -r pid _; do kill -9 "$pid" 2>/dev/null; done
  fi
  echo "interrupted" >&2
  exit 130
}
trap cleanup EXIT
trap interrupted INT TERM

# A process is this run's if it has the marker in its environment or the run's directory in its command line.
leftover_processes() {
  local entry pid
  for entry in /proc/[0-9]*; do
    pid=${entry#/proc/}
    [ "$pid" != $$ ] || continue
    if grep -qzx "FABRIC_TEST_RUN=$run_id" "$entry/environ" 2>/dev/null || grep -qaF "$work/t" "$entry/cmdline" 2>/dev/null; then
      printf '%s %s\n' "$pid" "$(tr '\0' ' ' 2>/dev/null <"$entry/cmdline" | cut -c1-160)"
    fi
  done
}
step() { printf '%4ds  %s\n' $((SECONDS - started)) "$*"; }
fault() { printf 'FAILED: %s\n' "$*"; failed=$((failed + 1)); }
finish() {
  step "done"
  [ -z "$failures" ] || printf 'failed:\n%s' "$failures" # again, where whoever sees only the end finds them
  if [ $((passed + failed)) -eq 0 ]; then fault "no test ran"; fi
  printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" -eq 0 ]
  exit
}

# Shows the essence of the log of a check that failed.
failed_check() { # WHAT LOG
  grep -E '(error|warning) ' "$2" | sort -u | head -n 40
  [ -n "$(grep -E '(error|warning) ' "$2")" ] || tail -n 40 "$2"
  fault "$1"
}

# Runs a command with its output in a log.
check() { # WHAT COMMAND...
  local what=$1
  shift
  step "$what"
  "$@" >"$work/check.log" 2>&1 </dev/null && return
  failed_check "$what" "$work/check.log"
  return 1
}

# --- before the tests ------------------------------------------------------------------------------------------------
find_dotnet || { fault "no .NET SDK"; finish; }
step "prerequisites"
"$root/deploy/install-prerequisites.sh" --tests || echo "note: something is not installed; the tests that need it will be skipped"
if images=$("$root/guests/build.sh"); then
  for item in $images; do
    case $item in
      kernel=*) export FABRIC_GUEST_KERNEL="${item#*=}" ;;
      initrd=*) export FABRIC_GUEST_INITRD="${item#*=}" ;;
      initrd_stress=*) export FABRIC_GUEST_INITRD_STRESS="${item#*=}" ;;
    esac
  done
else
  echo "note: no test guests; the tests that boot one will be skipped"
fi

scripts=(fabric test.sh .ci/run guests/build.sh deploy/*.sh)
# shellcheck disable=SC2016
check "syntax of the scripts" bash -c 'for script; do bash -n "$script" || exit 1; done' - "${scripts[@]}"
if command -v shellcheck >/dev/null; then
  check "shellcheck" shellcheck -S warning "${scripts[@]}" guests/init
fi
check "restore, by the lock files" dotnet restore Fabric.sln --locked-mode || finish
check "build, warnings are errors" build Fabric.sln -c Release --no-restore -v quiet || finish
step "format (beside the tests)"
timeout 600 dotnet format whitespace Fabric.sln --verify-no-changes --no-restore >"$work/format.log" 2>&1 </dev/null &
running[format]=$!

# --- the tests -------------------------------------------------------------------------------------------------------
count() { grep -c "<UnitTestResult .*outcome=\"$2\"" "$1" || true; }

unescape() { sed 's/&quot;/"/g; s/&apos;/'"'"'/g; s/&#39;/'"'"'/g; s/&lt;/</g; s/&gt;/>/g; s/&#xD;//g; s/&#xA;/ /g; s/&amp;/\&/g'; } # of XML

# Prints "reason (n tests)" for each reason for which tests were skipped.
skip_reasons() {
  awk '/<UnitTestResult .*outcome="NotExecuted"/ { inside = 1 }
       inside && /<Message>/ { text = $0; sub(/.*<Message>/, "", text); sub(/<\/Message>.*/, "", text); reasons[text]++; inside = 0 }
       END { for (r in reasons) printf "        skipped %d: %s\n", reasons[r], r }' "$1" |
    unescape | sort
}

# Prints "name: the first line of its error" for each test that failed.
failures() {
  awk '/<UnitTestResult .*outcome="Failed"/ { name = $0; sub(/.* testName="/, "", name); sub(/" [a-zA-Z]*=.*/, "", name); inside = 1 }
       inside && /<Message>/ { text = $0; sub(/.*<Message>/, "", text); sub(/<\/Message>.*/, "", text); printf "        %s: %s\n", name, substr(text, 1, 600); inside = 0 }' "$1" |
    unescape
}

start_project() { # NAME
  step "test $1"
  # TMPDIR and the marker let the leftover check below tell this run's processes and files from all others.
  env FABRIC_TEST_RUN="$run_id" TMPDIR="$work/t" timeout -k 15 "$project_seconds" \
    dotnet test "tests/Fabric.$1/Fabric.$1.csproj" -c Release --no-build --results-directory "$work" --logger "trx;LogFileName=$1.trx" \
    --blame-hang-timeout "${hang_seconds}s" --blame-hang-dump-type none >"$work/$1.log" 2>&1 </dev/null &
  running[$1]=$!
}

end_project() { # NAME
  local name=$1 trx="$work/$1.trx" log="$work/$1.log" status=0 p f s
  wait "${running[$name]}" || status=$?
  unset "running[$name]"
  if [ ! -f "$trx" ]; then
    if [ "$status" -eq 0 ] && grep -q 'No test is available' "$log"; then
      echo "        (holds no tests)"
      return
    fi
    tail -n 60 "$log"
    fault "Fabric.$name ended with status $status and no result$([ "$status" -ne 124 ] || echo ": it took longer than $project_seconds s")"
    return
  fi
  p=$(count "$trx" Passed) f=$(count "$trx" Failed) s=$(count "$trx" NotExecuted)
  echo "        $p passed, $f failed, $s skipped of Fabric.$name"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  [ "$s" -eq 0 ] || skip_reasons "$trx"
  if [ "$f" -gt 0 ]; then
    grep -vE '^\s*(Passed|Skipped) |^\s*$' "$log" | head -n 300
    failures+=$(failures "$trx")$'\n'
  elif [ "$status" -ne 0 ]; then
    tail -n 60 "$log"
    fault "Fabric.$name ended with status $status although no test failed: the test process died or hung"
  fi
}

mkdir "$work/t"
shm_before=$(find /dev/shm -maxdepth 2 -name 'fabric*' 2>/dev/null | sort)
for name in "${projects[@]}"; do
  if [ ! -f "tests/Fabric.$name/Fabric.$name.csproj" ]; then
    fault "there is no test project tests/Fabric.$name"
    continue
  fi
  [ -n "${running[$name]:-}" ] || start_project "$name"
  # Unit waits for sockets and clocks a third of its time, Simulation only computes. One that has run already is not started again: nobody would end it.
  [[ $name != Unit || " ${projects[*]} " != *" Simulation "* || -f "$work/Simulation.trx" ]] || start_project Simulation
  end_project "$name"
done
wait "${running[format]}" || failed_check "format" "$work/format.log"
unset "running[format]"

# --- after the tests: nothing may be left ----------------------------------------------------------------------------
step "looking for leftovers"
left=$(leftover_processes 2>/dev/null)
for _ in 1 2 3 4 5 6 7 8 9 10; do # what was told to end may take a moment
  [ -n "$left" ] || break
  sleep 0.5
  left=$(leftover_processes 2>/dev/null)
done
if [ -n "$left" ]; then
  printf '%s\n' "$left"
  fault "processes were left behind (above); they are ended now"
  printf '%s\n' "$left" | while read -r pid _; do kill -9 "$pid" 2>/dev/null; done
fi
# A memory file that nobody maps has lost its owner. One that another process maps belongs to a machine of someone else.
while read -r file; do
  [ -n "$file" ] && [ -f "$file" ] || continue
  if ! grep -qF " $file" /proc/[0-9]*/maps 2>/dev/null; then
    ls -l "$file"
    fault "the memory file $file was left behind"
  fi
done < <(comm -13 <(printf '%s\n' "$shm_before") <(find /dev/shm -maxdepth 2 -name 'fabric*' 2>/dev/null | sort))

finish
