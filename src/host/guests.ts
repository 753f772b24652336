// The machines that a guest with an operating system can run in, and how a guest comes to be in each.
import { unreachable } from "../base/assert.ts";
import type { LinuxAssets } from "./assets.ts";
import type { HostedGuest, HostedGuestOptions } from "./hosted-guest.ts";
import { createDestinationGuest, startLinuxGuest } from "./linux-guest.ts";
import { expectQemuGuest, startQemuGuest, type QemuGuestKind } from "./qemu-guest.ts";

/** What a guest is made of. */
export type GuestKind = { readonly machine: "linux"; readonly assets: LinuxAssets } | QemuGuestKind;

export interface GuestOptions extends HostedGuestOptions {
  readonly guest: GuestKind;
}

/** A guest at its prompt, with its network up. Rejects with an OperationError that says what is missing. */
export function startGuest(options: GuestOptions): Promise<HostedGuest> {
  const { guest } = options;
  switch (guest.machine) {
    case "linux":
      return startLinuxGuest({ ...options, assets: guest.assets });
    case "qemu":
      return startQemuGuest(options, guest);
    default:
      return unreachable(guest);
  }
}

/** The same hardware with nothing in it, its VF stopped: ready to take a guest in. */
export function expectGuest(options: GuestOptions): Promise<HostedGuest> {
  const { guest } = options;
  switch (guest.machine) {
    case "linux":
      return createDestinationGuest({ ...options, assets: guest.assets });
    case "qemu":
      return expectQemuGuest(options, guest);
    default:
      return unreachable(guest);
  }
}
