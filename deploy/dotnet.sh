# shellcheck shell=bash
# Sourced by ./fabric and ./test.sh: finds the .NET SDK and keeps its helpers from outliving the caller.

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
