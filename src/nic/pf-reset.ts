// A reset of the VF that the PF starts: what it does to the queues, and what makes the stock driver start over.
import type { ReceiveUnit } from "./receive.ts";
import { RXDCTL_ENABLE, TXDCTL_ENABLE, VFRXDCTL, VFTDH, VFTXDCTL } from "./registers.ts";
import type { TransmitUnit } from "./transmit.ts";

/**
 * How the PF makes the stock driver start over by itself (strategy `reinit`). In both ways the queues are disabled at
 * once and head write-back is switched off: no descriptor of the old rings is read or written any more. Masks, vectors
 * and the MSI-X table stay, so that the driver can be told.
 *
 * `mailbox` is what ixgbe does when it changes a VF's trust (ixgbe_ndo_set_vf_trust): it withdraws CTS and says so,
 * here with NACK in the first message already. In ixgbevf of Linux 6.1:
 * 1. the mailbox vector (VTIVAR_MISC) fires; ixgbevf_msix_other sets get_link_status and schedules the service task;
 * 2. check_mac_link_vf sees VFLINKS up (without link it looks no further), reads a message without CTS but with
 *    NACK and returns an error; the driver reports the link as down;
 * 3. ixgbevf_watchdog_update_link requests a reset if `jiffies` is after `last_reset + 10 * HZ`. If it is not, the
 *    PF answers each acknowledgement with NACK 10 ms later, which brings the driver back to 1, until it is;
 * 4. the next run of the service task, 10 ms later by the same way (2 s by its timer otherwise), carries out
 *    ixgbevf_reinit_locked: down, VFCTRL.RST, RESET message, API, rings, up. The PF is satisfied by the RESET.
 *
 * `last_reset` is written by ixgbevf_reset only (down, set MTU, open after a stop), not by probe and the first open:
 * a driver never reset holds 0 there. On 64 bits any `jiffies` is after that. On 32 bits `jiffies` starts 300 s
 * before its wrap, so that until 310 s after boot step 3 never requests a reset, and the guest has no network.
 *
 * `transmit-hang` avoids that test: VFTDH is left one behind VFTDT, as if the last descriptor were never fetched. The
 * service task, every 2 s while the link is up, arms the check and raises the queue vectors (VTEICS);
 * ixgbevf_check_tx_hang finds the same state twice and resets at once: 2 to 6 s after this call. The link stays up
 * for the stack meanwhile, and the kernel logs "Detected Tx Unit Hang".
 */
export type PfResetMeans = "mailbox" | "transmit-hang";

/** Disables every queue, and under `transmit-hang` leaves the enabled transmit queues looking hung. */
export function resetQueues(
  parts: { registers: Uint32Array; receive: ReceiveUnit; transmit: TransmitUnit },
  queuePairs: number,
  means: PfResetMeans,
): void {
  const { registers, receive, transmit } = parts;
  for (let queue = 0; queue < queuePairs; queue++) {
    const { enabled, descriptors, tail } = transmit.ring(queue);
    registers[VFRXDCTL(queue) >>> 2] = (registers[VFRXDCTL(queue) >>> 2] as number) & ~RXDCTL_ENABLE;
    registers[VFTXDCTL(queue) >>> 2] = (registers[VFTXDCTL(queue) >>> 2] as number) & ~TXDCTL_ENABLE;
    receive.queueChanged(queue);
    transmit.queueChanged(queue);
    if (means !== "transmit-hang" || !enabled || descriptors === 0) continue;
    registers[VFTDH(queue) >>> 2] = tail === 0 ? descriptors - 1 : tail - 1;
  }
}
