// What the driver programmed and relies on, in registers and beside them: the destination's VF must have it as the source's had at P.
import * as register from "../nic/registers.ts";
import type { VfState } from "../nic/state.ts";
import type { Examined } from "./evidence.ts";
import { hex8, type Finding } from "./findings.ts";

interface Named {
  readonly name: string;
  readonly offset: number;
}

const perQueue: readonly (readonly [string, (queue: number) => number])[] = [
  ["VFRDBAL", register.VFRDBAL],
  ["VFRDBAH", register.VFRDBAH],
  ["VFRDLEN", register.VFRDLEN],
  ["VFRDT", register.VFRDT],
  ["VFSRRCTL", register.VFSRRCTL],
  ["VFRXDCTL", register.VFRXDCTL],
  ["VFDCA_RXCTRL", register.VFDCA_RXCTRL],
  ["VFRSCCTL", register.VFRSCCTL],
  ["VFTDBAL", register.VFTDBAL],
  ["VFTDBAH", register.VFTDBAH],
  ["VFTDLEN", register.VFTDLEN],
  ["VFTDT", register.VFTDT],
  ["VFTXDCTL", register.VFTXDCTL],
  ["VFDCA_TXCTRL", register.VFDCA_TXCTRL],
];

const series = (name: string, count: number, offset: (index: number) => number): Named[] =>
  Array.from({ length: count }, (_, index) => ({ name: `${name}(${index})`, offset: offset(index) }));

/*
 * Left out: heads (the cut says what they must be), VTEICR and VTEIMS (an interrupt taken by the machine after P clears
 * and auto-masks bits; point 7 looks at them), counters, the mailbox, the link and the free-running timer.
 */
const checked: readonly Named[] = [
  { name: "VFPSRTYPE", offset: register.VFPSRTYPE },
  { name: "VTEIAC", offset: register.VTEIAC },
  { name: "VTEIAM", offset: register.VTEIAM },
  { name: "VTIVAR_MISC", offset: register.VTIVAR_MISC },
  ...series("VTIVAR", register.QUEUE_PAIRS_MAX / 2, register.VTIVAR),
  ...series("VTEITR", register.VECTORS_MAX, register.VTEITR),
  ...perQueue.flatMap(([name, offset]) => series(name, register.QUEUE_PAIRS_MAX, offset)),
  { name: "VFMRQC", offset: register.VFMRQC },
  ...series("VFRSSRK", register.VFRSSRK_WORDS, register.VFRSSRK),
  ...series("VFRETA", register.VFRETA_WORDS, register.VFRETA),
];

export function checkRegisters({ vfAtPause, vfAtResume }: Examined): Finding[] {
  const findings: Finding[] = [];
  for (const { name, offset } of checked) {
    const expected = vfAtPause.register(offset);
    const actual = vfAtResume.register(offset);
    if (expected === actual) continue;
    findings.push({
      hazard: "register-mismatch",
      sentence: `${name} is 0x${hex8(actual)}, at the pause it was 0x${hex8(expected)}`,
      address: offset,
      lengthBytes: 0,
      isNotMemory: true,
      expectedHex: hex8(expected),
      actualHex: hex8(actual),
    });
  }
  return findings;
}

/** Head write-back is checked whether or not the rings were dropped: an FLR leaves it armed (82599: only the PF clears it). */
export function checkHeadWriteBackRegisters({ vfAtPause, vfAtResume, droppedRings }: Examined): Finding[] {
  const findings: Finding[] = [];
  for (let queue = 0; queue < register.QUEUE_PAIRS_MAX; queue++) {
    const low = register.VFTDWBAL(queue);
    const high = register.VFTDWBAH(queue);
    const actual = [vfAtResume.register(high), vfAtResume.register(low)].map(hex8).join("");
    const before = [vfAtPause.register(high), vfAtPause.register(low)].map(hex8).join("");
    const isArmed = (vfAtResume.register(low) & register.TDWBAL_HEAD_WB_ENABLE) !== 0;
    if (droppedRings ? !isArmed : actual === before) continue;
    const expected = droppedRings ? hex8(0).repeat(2) : before;
    const sentence = droppedRings
      ? `transmit queue ${queue} was dropped, and its head write-back is still armed with 0x${actual}`
      : `transmit queue ${queue} has head write-back 0x${actual}, at the pause it was 0x${before}`;
    const place = { address: low, lengthBytes: 0, isNotMemory: true, queue, expectedHex: expected, actualHex: actual };
    findings.push({ hazard: "stale-head-writeback", sentence, ...place });
  }
  return findings;
}

/**
 * Configuration space and MSI-X table, and what the PF holds for this VF. A driver that starts over asks the PF for its
 * filters again, but keeps its address, its BARs and its vectors.
 */
export function checkDeviceState({ vfAtPause, vfAtResume, droppedRings }: Examined): Finding[] {
  const expected = partsOf(vfAtPause.state, droppedRings);
  const actual = partsOf(vfAtResume.state, droppedRings);
  const findings: Finding[] = [];
  for (const [name, value] of Object.entries(expected)) {
    const found = JSON.stringify(actual[name]);
    if (JSON.stringify(value) === found) continue;
    findings.push({
      hazard: "device-state-mismatch",
      sentence: `the VF's ${name} is ${found}, at the pause it was ${JSON.stringify(value)}`,
      address: 0,
      lengthBytes: 0,
      isNotMemory: true,
    });
  }
  return findings;
}

function partsOf({ pci, physicalFunction, queuePairs }: VfState, startsOver: boolean): Record<string, unknown> {
  const { msixVectors, ...configuration } = pci;
  const table = msixVectors.map(({ addressLow, addressHigh, data, masked }) => ({
    addressLow,
    addressHigh,
    data,
    masked,
  }));
  const kept = { ...configuration, "MSI-X table": table, queuePairs, "MAC address": physicalFunction.mac };
  if (startsOver) return kept;
  const { api, macVlans, multicastHashes, castMode, vlans, frameLimitBytes, clearToSend } = physicalFunction;
  return { ...kept, api, macVlans, multicastHashes, castMode, vlans, frameLimitBytes, clearToSend };
}
