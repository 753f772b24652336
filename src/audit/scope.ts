// What a verdict covers and what it does not, in words, for the report.
import type { Examined } from "./evidence.ts";

export function verifies(evidence: Examined): string[] {
  const { driver, counters, droppedRings, ledger } = evidence;
  const list = [
    "every byte of guest memory on the destination when its vCPUs began, except the buffers of posted, not-done receive descriptors",
    "configuration space and MSI-X table of the VF against the source's at the pause",
    "head write-back is armed only where the driver armed it",
  ];
  if (droppedRings) list.push("no dropped receive ring shows a done descriptor");
  else {
    list.push(
      "queue, ring, interrupt routing and RSS registers, and what the PF holds for the VF, against the source's at the pause",
      "each receive ring shows a prefix of the device's write-backs, whole frames only, and the VF resumes behind it",
      "each transmit head, its completions, its context slots, and how many frames are sent twice",
      "every queue with news for the driver has an interrupt coming",
    );
  }
  if (ledger.hashes.length > 0) list.push("no CPU write hit a buffer while the device owned it");
  if (driver !== undefined) list.push("frames that the driver had not taken, by its own count");
  if (counters !== undefined) list.push("every frame that the fabric sent is delivered, discarded, dropped or held");
  return list;
}

export function doesNotVerify(evidence: Examined): string[] {
  const { driver, counters, droppedRings, ledger } = evidence;
  const list = [
    "CPU and platform state beyond memory (registers, interrupt controller, timers)",
    "the VF's mailbox, link, counters and interrupt throttles",
    "what the source did before the pause other than device writes: memory at the pause is taken for right",
    "what happens after the destination's vCPUs began",
  ];
  if (ledger.firstSequence > 0) {
    list.push(
      `which frame lies where, for the ${ledger.firstSequence} oldest device writes: their bytes count as the CPU's`,
    );
  }
  if (ledger.hashes.length === 0)
    list.push("CPU writes into buffers that the device owned (the ledger kept no hashes)");
  if (driver === undefined) list.push("which done descriptors the driver had taken at the pause");
  if (counters === undefined) list.push("frames against the fabric's counters");
  if (droppedRings) {
    list.push("transmit rings, and how many frames were lost with the rings: the driver drops both");
  }
  return list;
}
