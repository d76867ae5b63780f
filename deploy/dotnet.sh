# shellcheck shell=bash
# Sourced by ./fabric and ./test.sh: finds the .NET SDK, builds with it, and keeps its helpers from outliving the caller.

# Sets PATH and DOTNET_ROOT so that `dotnet` is a .NET 10 SDK, or says what to install and returns 1.
find_dotnet() {
  local candidate
  for candidate in "$(command -v dotnet || true)" "${DOTNET_ROOT:-}/dotnet" "${HOME:-}/.dotnet/dotnet" /usr/share/dotnet/dotnet /usr/lib/dotnet/dotnet /opt/dotnet/dotnet; do
    [ -x "$candidate" ] || continue
    if [[ $'\n'$("$candidate" --list-sdks 2>/dev/null) == *$'\n10.'* ]]; then
      PATH="$(dirname "$candidate"):$PATH"
      export PATH
      return 0
    fi
  done
  echo "The .NET 10 SDK is not installed (looked in PATH, DOTNET_ROOT, ~/.dotnet, /usr/share/dotnet, /usr/lib/dotnet)." >&2
  echo "Install the package dotnet-sdk-10.0, or see https://dotnet.microsoft.com/download/dotnet/10.0" >&2
  return 1
}

# Compiler and build servers would live on after the build, with this run's environment.
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_USE_MSBUILD_SERVER=0 UseSharedCompilation=false
export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_SKIP_FIRST_TIME_EXPERIENCE=1 DOTNET_GENERATE_ASPNET_CERTIFICATE=false

# The build at hand: the name of its compiler, which is its socket's too, and its scratch directory.
build_compiler='' build_scratch=''

# Builds like `dotnet build`, with one compiler process for all projects: started anew for each project, it is compiled by the runtime each time, with all analyzers, and the
# build takes three times as long. The process is this build's own and ends with it. Whoever sources this calls end_build when it is interrupted.
build() { # ARGUMENTS OF dotnet build...
  local status=0
  build_compiler="fabric-build-$(cat /proc/sys/kernel/random/uuid)"
  build_scratch=$(mktemp -d /tmp/fb.XXXXXX) || return 1
  # No profiles are taken while it compiles: the better code that they give pays after minutes.
  TMPDIR="$build_scratch" DOTNET_TieredPGO=0 dotnet build "$@" -p:UseSharedCompilation=true "-p:SharedCompilationId=$build_compiler" || status=$?
  end_build
  return $status
}

end_build() {
  [ -n "$build_compiler" ] || return 0
  local entry pid
  for entry in /proc/[0-9]*; do
    pid=${entry#/proc/}
    if grep -qaF -e "-pipename:$build_compiler" "$entry/cmdline" 2>/dev/null; then
      kill "$pid" 2>/dev/null || true
      for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
      done
      kill -9 "$pid" 2>/dev/null || true
    fi
  done
  rm -rf "$build_scratch" "/tmp/$build_compiler"
  build_compiler='' build_scratch=''
}
