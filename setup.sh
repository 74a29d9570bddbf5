#!/bin/sh
# Finds or installs what Whorl needs: Deno 2 and, on Linux, a Vulkan driver and loader.
# Run it to set a machine up (`./setup.sh`); ./whorl sources it and does the same before each task.
#
# WHORL_SYSROOT (for the tests): a folder in which system paths are looked up instead of /.

WHORL_DENO_VERSION=2.9.6

whorl_say() {
  printf 'whorl: %s\n' "$*" >&2
}

# Sets DENO to a Deno 2 binary. npx is asked once for the path of its binary, which then runs without npm's wrappers
# in between: they would die of Ctrl-C before Deno does, and lose its exit status.
whorl_find_deno() {
  if command -v deno >/dev/null 2>&1; then
    whorl_version=$(deno --version 2>/dev/null | sed -n '1s/^deno \([0-9][^ ]*\).*/\1/p')
    case $whorl_version in
    2.*)
      DENO=$(command -v deno)
      return 0
      ;;
    esac
    whorl_say "the deno on PATH is version ${whorl_version:-unknown}, Whorl needs 2: using deno@$WHORL_DENO_VERSION through npx"
  elif command -v npx >/dev/null 2>&1; then
    whorl_say "no deno on PATH: using deno@$WHORL_DENO_VERSION through npx"
  fi
  if ! command -v npx >/dev/null 2>&1; then
    whorl_say "Deno 2 is needed and neither it nor npx is on PATH: install Deno (https://deno.com) or Node.js with npm, then run this again"
    return 1
  fi
  DENO=$(cd "$WHORL_ROOT" && npm_config_update_notifier=false npm_config_loglevel=error \
    npx -y "deno@$WHORL_DENO_VERSION" eval 'console.log(Deno.execPath())' </dev/null) || DENO=
  if [ -z "$DENO" ]; then
    whorl_say "npx could not get deno@$WHORL_DENO_VERSION (see above): install Deno 2 (https://deno.com), then run this again"
    return 1
  fi
  PATH=$(dirname "$DENO"):$PATH
  export PATH
}

# Prints the first Vulkan driver manifest, or nothing: the loader's own search path, then NVIDIA's container mount.
whorl_driver() (
  for files in "${VK_DRIVER_FILES-}" "${VK_ICD_FILENAMES-}" "${VK_ADD_DRIVER_FILES-}"; do
    if [ -n "$files" ]; then
      printf '%s\n' "$files"
      return
    fi
  done
  dirs=/usr/share:/etc:/usr/local/share:/usr/local/etc:/etc/xdg:/usr/local/nvidia/share
  dirs=$dirs:${XDG_CONFIG_HOME:-${HOME-}/.config}:${XDG_DATA_HOME:-${HOME-}/.local/share}:${XDG_DATA_DIRS-}
  IFS=:
  for dir in $dirs; do
    for manifest in "${WHORL_SYSROOT-}$dir"/vulkan/icd.d/*.json; do
      if [ -n "$dir" ] && [ -f "$manifest" ]; then
        printf '%s\n' "$manifest"
        return
      fi
    done
  done
)

whorl_has_loader() (
  IFS=:
  for dir in ${LD_LIBRARY_PATH-}; do
    [ -e "${WHORL_SYSROOT-}$dir/libvulkan.so.1" ] && return 0
  done
  for lib in "${WHORL_SYSROOT-}"/lib "${WHORL_SYSROOT-}"/lib64 "${WHORL_SYSROOT-}"/usr/lib \
    "${WHORL_SYSROOT-}"/usr/lib64 "${WHORL_SYSROOT-}"/usr/local/lib "${WHORL_SYSROOT-}"/lib/*-linux-* \
    "${WHORL_SYSROOT-}"/usr/lib/*-linux-*; do
    [ -e "$lib/libvulkan.so.1" ] && return 0
  done
  # Any other folder the linker knows; it is outside a non-root PATH on Debian.
  [ -z "${WHORL_SYSROOT-}" ] &&
    PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'
)

# Prints debian, fedora, arch or alpine, from os-release's ID and ID_LIKE; nothing for any other.
whorl_distribution() (
  release=${WHORL_SYSROOT-}/etc/os-release
  [ -r "$release" ] || return 0
  for id in $(sed -n -e 's/^ID=//p' -e 's/^ID_LIKE=//p' "$release" | tr -d '"'"'"); do
    case $id in
    debian | ubuntu) echo debian && return ;;
    fedora | rhel) echo fedora && return ;;
    arch | alpine) echo "$id" && return ;;
    esac
  done
)

whorl_apt_install() {
  whorl_log=$(mktemp) || return 1
  whorl_say "no Vulkan $1: installing $2 with apt-get"
  # An update that fails for one repository of many need not stop the install.
  DEBIAN_FRONTEND=noninteractive apt-get -q update </dev/null >"$whorl_log" 2>&1
  # The packages are separate words on purpose.
  # shellcheck disable=SC2086
  if DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 install $2 \
    </dev/null >>"$whorl_log" 2>&1; then
    rm -f "$whorl_log"
    whorl_say "installed $2"
    return 0
  fi
  tail -n 20 "$whorl_log" >&2
  rm -f "$whorl_log"
  whorl_say "installing $2 failed (above); run by hand: apt-get update && apt-get install -y $2"
  return 1
}

# Makes sure that Linux has a Vulkan driver and loader; false, with the line to run, where that can't be done.
whorl_find_vulkan() {
  [ "$(uname -s)" = Linux ] || return 0
  whorl_missing=
  whorl_packages=libvulkan1
  whorl_has_loader || whorl_missing=loader
  if [ -z "$(whorl_driver)" ]; then
    whorl_missing=driver
    whorl_packages='mesa-vulkan-drivers libvulkan1'
  fi
  [ -n "$whorl_missing" ] || return 0

  case $(whorl_distribution) in
  debian)
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
      whorl_apt_install "$whorl_missing" "$whorl_packages" || return 1
      [ -n "$(whorl_driver)" ] && return 0
      whorl_say "installed $whorl_packages, but there is still no Vulkan driver in /usr/share/vulkan/icd.d"
      return 1
    fi
    whorl_line="sudo apt-get update && sudo apt-get install -y $whorl_packages"
    ;;
  fedora) whorl_line='sudo dnf install -y mesa-vulkan-drivers vulkan-loader' ;;
  arch) whorl_line='sudo pacman -S --needed vulkan-swrast vulkan-icd-loader' ;;
  alpine) whorl_line='sudo apk add mesa-vulkan-swrast vulkan-loader' ;;
  *)
    # Systems that keep libraries in unusual places (NixOS, Guix): the loader may well be there.
    [ "$whorl_missing" = loader ] && return 0
    whorl_line="your package manager's Mesa Vulkan drivers (lavapipe) and Vulkan loader"
    ;;
  esac
  whorl_say "no Vulkan $whorl_missing found. Install one:"
  printf '  %s\n' "$whorl_line" >&2
  return 1
}

# Exports what the driver and Deno read. What the user has set stays.
whorl_environment() {
  [ "$(uname -s)" = Linux ] || return 0
  # Without it Deno may take OpenGL without a word where Vulkan fails.
  DENO_WEBGPU_BACKEND=${DENO_WEBGPU_BACKEND:-vulkan}
  export DENO_WEBGPU_BACKEND
  # NVIDIA's containers mount the manifest where the loader doesn't look.
  whorl_nvidia=${WHORL_SYSROOT-}/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
  if [ -f "$whorl_nvidia" ] && [ -z "${VK_DRIVER_FILES-}${VK_ICD_FILENAMES-}${VK_ADD_DRIVER_FILES-}" ]; then
    VK_ADD_DRIVER_FILES=$whorl_nvidia
    export VK_ADD_DRIVER_FILES
  fi
  # Mesa prints "XDG_RUNTIME_DIR is invalid" twice where it is not set. A fixed name, so that runs don't pile folders
  # up; taken only if it is ours and no link, since others can write to /tmp.
  if [ -z "${XDG_RUNTIME_DIR-}" ]; then
    whorl_runtime=${TMPDIR:-/tmp}/whorl-$(id -u)
    mkdir -m 700 "$whorl_runtime" 2>/dev/null
    if [ -L "$whorl_runtime" ] || [ -z "$(find "$whorl_runtime" -prune -type d -user "$(id -u)" -perm 700 2>/dev/null)" ]; then
      whorl_runtime=$(mktemp -d) || return 0
    fi
    XDG_RUNTIME_DIR=$whorl_runtime
    export XDG_RUNTIME_DIR
  fi
}

if [ "${0##*/}" = setup.sh ]; then
  set -u
  WHORL_ROOT=$(cd "$(dirname "$0")" && pwd -P) || exit 1
  whorl_find_deno || exit 1
  whorl_say "Deno: $DENO ($("$DENO" --version | sed -n '1s/^deno \([^ ]*\).*/\1/p'))"
  whorl_find_vulkan || exit 1
  [ "$(uname -s)" != Linux ] || whorl_say "Vulkan driver: $(whorl_driver)"
  (cd "$WHORL_ROOT" && "$DENO" install --quiet --frozen) || exit 1
  whorl_say 'packages of deno.lock are in the cache; ready: ./whorl finetune'
fi
