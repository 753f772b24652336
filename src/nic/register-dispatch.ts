// What a register access sets in motion: each effect of the register table, sent to the unit that answers for it.
import type { InterruptUnit } from "./interrupts.ts";
import type { PhysicalFunction } from "./physical-function.ts";
import type { ReceiveUnit } from "./receive.ts";
import type { RegisterEffects } from "./register-file.ts";
import { RegisterEffect } from "./register-table.ts";
import { TXDCTL_SWFLSH, VFCTRL_RST, VFFRTIMER } from "./registers.ts";
import type { TransmitUnit } from "./transmit.ts";

export interface RegisterDispatchParts {
  readonly registers: Uint32Array;
  readonly queuePairs: number;
  readonly interrupts: InterruptUnit;
  readonly pf: PhysicalFunction;
  readonly receive: ReceiveUnit;
  readonly transmit: TransmitUnit;
  /** VFFRTIMER now. */
  readonly timerUs: () => number;
  /** VFCTRL.RST was written. */
  readonly onSoftwareReset: () => void;
  /** The receive unit has heard of a new tail, or of another register, of this queue. */
  readonly onReceiveTail: (queue: number) => void;
  readonly onReceiveQueue: (queue: number) => void;
  /** A queue may have work now. */
  readonly onDoorbell: () => void;
}

export class RegisterDispatch implements RegisterEffects {
  /** Writes to registers of queues the PF has not given to the VF: stored, and without effect. */
  missingQueues = 0;
  readonly #parts: RegisterDispatchParts;

  constructor(parts: RegisterDispatchParts) {
    this.#parts = parts;
  }

  beforeRead(effect: RegisterEffect): void {
    if (effect === RegisterEffect.timer) this.#parts.registers[VFFRTIMER >>> 2] = this.#parts.timerUs();
  }

  afterRead(effect: RegisterEffect): void {
    if (effect === RegisterEffect.causes) this.#parts.interrupts.evaluate();
  }

  afterWrite(effect: RegisterEffect, instance: number, written: number): void {
    const { interrupts, pf } = this.#parts;
    switch (effect) {
      case RegisterEffect.receiveTail:
      case RegisterEffect.receiveQueue:
      case RegisterEffect.transmitTail:
      case RegisterEffect.transmitQueue:
      case RegisterEffect.transmitControl:
        this.#queueWritten(effect, instance, written);
        return;
      case RegisterEffect.causes:
      case RegisterEffect.interruptMask:
        interrupts.evaluate();
        return;
      case RegisterEffect.causeSet:
        interrupts.setCauses(written);
        return;
      case RegisterEffect.throttle:
        interrupts.throttleWritten(instance, written);
        return;
      case RegisterEffect.mailbox:
        pf.mailbox.controlWritten(written);
        return;
      case RegisterEffect.control:
        if ((written & VFCTRL_RST) !== 0) this.#parts.onSoftwareReset();
        return;
      case RegisterEffect.none:
      case RegisterEffect.timer:
        return;
      default:
        effect satisfies never;
    }
  }

  #queueWritten(effect: RegisterEffect, queue: number, written: number): void {
    const { queuePairs, receive, transmit, onReceiveTail, onReceiveQueue, onDoorbell } = this.#parts;
    if (queue >= queuePairs) {
      this.missingQueues++;
      return;
    }
    if (effect === RegisterEffect.receiveTail) {
      receive.tailWritten(queue);
      onReceiveTail(queue);
    } else if (effect === RegisterEffect.transmitTail) transmit.tailWritten(queue);
    else if (effect === RegisterEffect.receiveQueue) {
      receive.queueChanged(queue);
      onReceiveQueue(queue);
    } else {
      const flushes = effect === RegisterEffect.transmitControl && (written & TXDCTL_SWFLSH) !== 0;
      if (flushes) transmit.flush(queue);
      transmit.queueChanged(queue);
    }
    onDoorbell();
  }
}
