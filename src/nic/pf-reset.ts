// A reset of the VF that the PF starts: what it does to the queues, and what makes the stock driver start over.
import { RXDCTL_ENABLE, TXDCTL_ENABLE, VFRXDCTL, VFTDH, VFTXDCTL } from "./registers.ts";
import type { VfParts } from "./vf-parts.ts";

/**
 * How the PF makes the stock driver start over by itself (strategy `reinit`). In both ways the queues are disabled at
 * once and head write-back is switched off: no descriptor of the old rings is read or written any more. Masks, vectors
 * and the MSI-X table stay, so that the driver can be told. VFTDH is left one behind VFTDT, as if the last descriptor
 * had not been fetched.
 *
 * `mailbox` is what ixgbe does when it changes a VF's trust (ixgbe_ndo_set_vf_trust): it withdraws CTS and says so,
 * here with NACK in the first message already. In ixgbevf of Linux 6.1:
 * 1. the mailbox vector (VTIVAR_MISC) fires; ixgbevf_msix_other sets get_link_status and schedules the service task;
 * 2. check_mac_link_vf sees VFLINKS up (without link it looks no further), reads a message without CTS but with
 *    NACK and returns an error; the driver reports the link as down;
 * 3. ixgbevf_watchdog_update_link requests a reset if `jiffies` is after `last_reset + 10 * HZ`. If it is not, the
 *    PF answers each acknowledgement with NACK 10 ms later, which brings the driver back to 1, until it is;
 * 4. the next run of the service task, 10 ms later by the same way, carries out ixgbevf_reinit_locked: down,
 *    VFCTRL.RST, RESET message, API, rings, up. The PF is satisfied by the RESET. From 1 to 4 a guest in the embedded
 *    PC took 80 to 100 ms.
 *
 * `last_reset` is written by ixgbevf_reset only (down, set MTU, open after a stop), not by probe and the first open:
 * a driver never reset holds 0 there. On 64 bits any `jiffies` is after that. On 32 bits `jiffies` starts 300 s
 * before its wrap, so that until 310 s after boot step 3 never requests a reset.
 *
 * What helps such a driver is its check for a transmit hang, which asks nothing about the last reset. Every 2 s the
 * service task, while the link is up, arms the check and raises the queue vectors (VTEICS); ixgbevf_check_tx_hang finds
 * VFTDH and VFTDT apart and nothing done twice in a row, logs "Detected Tx Unit Hang" and resets at once: 2 to 6 s
 * after this call. With the strict handshake of API 1.5 and 1.7 that also happens under `mailbox`: a service task
 * that finds no message takes the link for up again (IXGBEVF_PF_SUP_ESX_MBX), if only until the next NACK.
 * With the older handshake the NACK stays readable, the link stays down and the check is never armed; there
 * `transmit-hang`, which sends no message, is the way. The link then stays up for the stack meanwhile.
 */
export type PfResetMeans = "mailbox" | "transmit-hang";

/** Disables every queue, and leaves those that transmitted looking hung. */
export function resetQueues({ registers, queuePairs, receive, transmit }: VfParts): void {
  for (let queue = 0; queue < queuePairs; queue++) {
    const { enabled, descriptors, tail } = transmit.ring(queue);
    registers[VFRXDCTL(queue) >>> 2] = (registers[VFRXDCTL(queue) >>> 2] as number) & ~RXDCTL_ENABLE;
    registers[VFTXDCTL(queue) >>> 2] = (registers[VFTXDCTL(queue) >>> 2] as number) & ~TXDCTL_ENABLE;
    receive.queueChanged(queue);
    transmit.queueChanged(queue);
    if (!enabled || descriptors === 0) continue;
    registers[VFTDH(queue) >>> 2] = tail === 0 ? descriptors - 1 : tail - 1;
  }
}
