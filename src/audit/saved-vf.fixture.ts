// The state of a VF around the registers and queues that a test has, and frames for it to receive.
import type { SeededRandom } from "../base/random.ts";
import type { ReceiveQueueState, TransmitQueueState } from "../nic/datapath-ports.ts";
import { saveRegisters } from "../nic/register-state.ts";
import type { VfState } from "../nic/state.ts";

export function savedVf(device: {
  readonly registers: Uint32Array;
  readonly receive: ReceiveQueueState[];
  readonly transmit: TransmitQueueState[];
}): VfState {
  const vector = (data: number) => ({ addressLow: 0xfee0_0000, addressHigh: 0, data, masked: false, pending: false });
  return structuredClone({
    device: "82599-vf",
    version: 1,
    queuePairs: device.receive.length,
    timerUs: 0,
    pci: {
      command: 6,
      cacheLineSize: 0,
      interruptLine: 0,
      bars: [4, 0, 0, 4, 0, 0],
      deviceControl: 0,
      deviceControl2: 0,
      msixControl: 0x8002,
      msixVectors: [0, 1, 2].map(vector),
    },
    registers: saveRegisters(device.registers),
    interrupts: { vectors: [0, 1, 2].map(() => ({ asserted: false, holdUs: 0 })) },
    physicalFunction: {
      clearToSend: true,
      api: 1,
      mac: "02:00:00:00:00:01",
      macAssigned: true,
      addressFiltered: true,
      macVlans: [],
      multicastHashes: [],
      castMode: 1,
      vlans: [0],
      spoofCheck: true,
      frameLimitBytes: 1518,
      receiveEnabled: true,
      refusalDueUs: -1,
      mailbox: { waitingReply: [], waitingControl: [], replyUnread: false },
    },
    receive: { queues: device.receive },
    transmit: { queues: device.transmit, nextQueue: 0 },
  } satisfies VfState);
}

/** UDP from 10.0.2.2:7 to 10.0.2.15:9, with the lengths of a frame of 60 bytes. */
const udpHeader =
  "020000000001" +
  "0200000000fe" +
  "0800" +
  "4500002e000000004011" +
  "0000" +
  "0a000202" +
  "0a00020f" +
  "00070009001a0000";

/** A frame of random bytes behind a UDP header, as far as it is long enough. */
export function makeFrame(random: SeededRandom, lengthBytes: number): Uint8Array {
  const frame = Uint8Array.from({ length: lengthBytes }, () => random.below(256));
  frame.set(Uint8Array.fromHex(udpHeader).subarray(0, lengthBytes));
  return frame;
}
