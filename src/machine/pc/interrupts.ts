// Message-signalled interrupts into v86's local APIC.
import type { MessageSink } from "../../pci/function.ts";
import type { V86Cpu } from "./v86-internals.ts";

// Words of v86's APIC structure (src/rust/cpu/apic.rs): request register and trigger mode register, 256 bits each.
const requestWord = 16;
const triggerModeWord = 32;
const apicWords = 46;

/** Messages go to physical 0xfeexxxxx (Intel SDM volume 3, "Message Address Register Format"). */
const messageWindow = 0xfee;
const deliveryMode = { fixed: 0, lowestPriority: 1 } as const;
const vectorLeast = 0x10;

/**
 * A vector is delivered by its bit in the APIC's interrupt request register, which v86 has no entry point for; the
 * trigger mode bit says that it is an edge, with no end-of-interrupt to tell the I/O APIC. Then `take` has the CPU look
 * for it, and wakes it from HLT. That pushes a frame onto the guest's stack, so it is only done between ticks, and never
 * while the guest is paused: a message that comes then is held as its request bit, and the guest takes it when it goes
 * on, by itself.
 */
export class PcInterrupts implements MessageSink {
  /** Messages that name no processor's APIC or a mode that is not for messages: the guest's mistake, dropped. */
  dropped = 0;
  delivered = 0;
  readonly #cpu: V86Cpu;
  readonly #apicAddress: number;
  readonly #canTake: () => boolean;

  constructor(cpu: V86Cpu, canTake: () => boolean) {
    this.#cpu = cpu;
    // The address is a constant. It must not be asked for inside the main loop, which may hold the APIC's lock.
    this.#apicAddress = cpu.get_apic_addr();
    this.#canTake = canTake;
  }

  deliver(addressLow: number, addressHigh: number, data: number): void {
    const vector = data & 0xff;
    const mode = (data >>> 8) & 7;
    const isMode = mode === deliveryMode.fixed || mode === deliveryMode.lowestPriority;
    if (addressLow >>> 20 !== messageWindow || addressHigh !== 0 || !isMode || vector < vectorLeast) {
      this.dropped++;
      return;
    }
    const apic = new Uint32Array(this.#cpu.wasm_memory.buffer, this.#apicAddress, apicWords);
    const word = vector >>> 5;
    const bit = 1 << (vector & 31);
    apic[requestWord + word] = (apic[requestWord + word] ?? 0) | bit;
    apic[triggerModeWord + word] = (apic[triggerModeWord + word] ?? 0) & ~bit;
    this.delivered++;
    if (this.#canTake()) this.#cpu.handle_irqs();
  }
}
