// A PCI Express endpoint: header, 64-bit memory BARs, MSI-X and the function-level reset, for any device behind them.
import { assert } from "../base/assert.ts";
import { ADDRESS_MAX } from "../base/numbers.ts";
import {
  COMMAND_BUS_MASTER,
  COMMAND_MEMORY,
  CONFIGURATION_BYTES,
  ConfigurationOffset,
  ConfigurationSpace,
} from "./configuration-space.ts";
import type { AccessBytes, BarDescription, MessageSink, PciFunction } from "./function.ts";
import { MSIX_CONTROL_ENABLE, MSIX_CONTROL_FUNCTION_MASK, MsixTable } from "./msix.ts";
import type { MsixPlacement, MsixVectorState } from "./msix.ts";

export interface EndpointIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
  readonly revision: number;
  /** 24 bits: base class, subclass, programming interface. */
  readonly classCode: number;
}

/** What answers behind one BAR. Called only while memory decoding is on, with offsets inside the BAR. */
export interface EndpointBar extends BarDescription {
  read(offset: number, bytes: AccessBytes): number;
  write(offset: number, bytes: AccessBytes, value: number): void;
}

export interface EndpointOptions {
  readonly identity: EndpointIdentity;
  /** BARs of the device; the BAR of the MSI-X table is the endpoint's own. */
  readonly bars: readonly EndpointBar[];
  readonly msix: MsixPlacement & { readonly bar: BarDescription; readonly capabilityOffset: number };
  readonly expressCapabilityOffset: number;
  readonly messages: MessageSink;
  /** The guest asked for a function-level reset; configuration is already back at its reset values. */
  readonly onFunctionLevelReset: () => void;
  /** Bus mastering or MSI-X was switched on or off: what the device held back may now go. */
  readonly onGatesChanged: () => void;
}

/** Saved configuration: what the guest programmed. Identity and sizes are the device's and are not saved. */
export interface EndpointState {
  readonly command: number;
  readonly cacheLineSize: number;
  readonly interruptLine: number;
  /** The six BAR registers as the guest wrote them. */
  readonly bars: readonly number[];
  readonly deviceControl: number;
  readonly deviceControl2: number;
  readonly msixControl: number;
  readonly msixVectors: readonly MsixVectorState[];
}

const CAPABILITY_MSIX = 0x11;
const CAPABILITY_EXPRESS = 0x10;
const BAR_TYPE_64BIT = 0x4;
const COMMAND_MASK = 0x0546;
const EXPRESS_DEVICE_CONTROL = 0x08;
const EXPRESS_DEVICE_CONTROL2 = 0x28;
const DEVICE_CAPABILITY_FLR = 0x1000_0000;
const DEVICE_CAPABILITY_ROLE_BASED_ERRORS = 0x8000;
const DEVICE_CAPABILITY_PAYLOAD_512 = 0x2;
const DEVICE_CONTROL_RESET_VALUE = 0x2810;
const DEVICE_CONTROL_START_FLR = 0x8000;

export class PciEndpoint implements PciFunction {
  readonly bars: readonly BarDescription[];
  readonly msix: MsixTable;
  readonly configuration = new ConfigurationSpace();
  onBarsChanged: () => void = () => {};
  readonly #options: EndpointOptions;
  readonly #behind: readonly (EndpointBar | undefined)[];
  readonly #addresses = new Float64Array(6).fill(-1);
  #memoryDecoding = false;
  #busMaster = false;

  constructor(options: EndpointOptions) {
    this.#options = options;
    this.msix = new MsixTable(options.msix, options.messages);
    const msixBar: EndpointBar = {
      ...options.msix.bar,
      read: (offset, bytes) => this.msix.read(offset, bytes),
      write: (offset, bytes, value) => this.msix.write(offset, bytes, value),
    };
    const bars = [...options.bars, msixBar];
    this.bars = bars.map(({ index, sizeBytes, is64Bit }) => ({ index, sizeBytes, is64Bit }));
    this.#behind = Array.from({ length: 6 }, (_, index) => bars.find((bar) => bar.index === index));
    this.#layOutHeader();
    this.#layOutCapabilities();
  }

  /** DMA and messages need it. */
  get busMasterEnabled(): boolean {
    return this.#busMaster;
  }

  readConfiguration(offset: number, bytes: AccessBytes): number {
    return this.configuration.read(offset, bytes);
  }

  writeConfiguration(offset: number, bytes: AccessBytes, value: number): void {
    const configuration = this.configuration;
    if (!configuration.write(offset, bytes, value)) return;
    const deviceControl = this.#options.expressCapabilityOffset + EXPRESS_DEVICE_CONTROL;
    if ((configuration.get(deviceControl, 2) & DEVICE_CONTROL_START_FLR) !== 0) {
      this.#resetFunction();
    } else {
      this.#takeOver();
    }
  }

  readBar(bar: number, offset: number, bytes: AccessBytes): number {
    const behind = this.#behind[bar];
    if (behind === undefined || !this.#memoryDecoding || offset < 0 || offset >= behind.sizeBytes) {
      return bytes === 4 ? 0xffff_ffff : (1 << (8 * bytes)) - 1;
    }
    return behind.read(offset, bytes);
  }

  writeBar(bar: number, offset: number, bytes: AccessBytes, value: number): void {
    const behind = this.#behind[bar];
    if (behind === undefined || !this.#memoryDecoding || offset < 0 || offset >= behind.sizeBytes) return;
    behind.write(offset, bytes, value);
  }

  barAddress(bar: number): number {
    return this.#addresses[bar] ?? -1;
  }

  save(): EndpointState {
    const configuration = this.configuration;
    const express = this.#options.expressCapabilityOffset;
    return {
      command: configuration.get(ConfigurationOffset.command, 2),
      cacheLineSize: configuration.get(ConfigurationOffset.cacheLineSize, 1),
      interruptLine: configuration.get(ConfigurationOffset.interruptLine, 1),
      bars: Array.from({ length: 6 }, (_, i) => configuration.get(ConfigurationOffset.bars + 4 * i, 4)),
      deviceControl: configuration.get(express + EXPRESS_DEVICE_CONTROL, 2),
      deviceControl2: configuration.get(express + EXPRESS_DEVICE_CONTROL2, 2),
      msixControl: configuration.get(this.#options.msix.capabilityOffset + 2, 2),
      msixVectors: this.msix.save(),
    };
  }

  /**
   * Loads saved configuration; pending messages that nothing holds back are sent (see MsixTable.hold). Calls
   * onBarsChanged if a BAR moved.
   */
  restore(state: EndpointState): void {
    const configuration = this.configuration;
    const express = this.#options.expressCapabilityOffset;
    configuration.load(ConfigurationOffset.command, 2, state.command);
    configuration.load(ConfigurationOffset.cacheLineSize, 1, state.cacheLineSize);
    configuration.load(ConfigurationOffset.interruptLine, 1, state.interruptLine);
    for (const [i, bar] of state.bars.slice(0, 6).entries()) {
      configuration.load(ConfigurationOffset.bars + 4 * i, 4, bar);
    }
    configuration.load(express + EXPRESS_DEVICE_CONTROL, 2, state.deviceControl & ~DEVICE_CONTROL_START_FLR);
    configuration.load(express + EXPRESS_DEVICE_CONTROL2, 2, state.deviceControl2);
    configuration.load(this.#options.msix.capabilityOffset + 2, 2, state.msixControl);
    this.msix.restore(state.msixVectors);
    this.#takeOver();
  }

  #layOutHeader(): void {
    const { identity } = this.#options;
    const configuration = this.configuration;
    configuration.define(ConfigurationOffset.vendorId, 2, identity.vendorId);
    configuration.define(ConfigurationOffset.deviceId, 2, identity.deviceId);
    configuration.define(ConfigurationOffset.command, 2, 0, COMMAND_MASK);
    configuration.define(ConfigurationOffset.revision, 1, identity.revision);
    configuration.define(ConfigurationOffset.classCode, 1, identity.classCode & 0xff);
    configuration.define(ConfigurationOffset.classCode + 1, 2, identity.classCode >>> 8);
    configuration.define(ConfigurationOffset.cacheLineSize, 1, 0, 0xff);
    configuration.define(ConfigurationOffset.subsystemVendorId, 2, identity.subsystemVendorId);
    configuration.define(ConfigurationOffset.subsystemId, 2, identity.subsystemId);
    configuration.define(ConfigurationOffset.interruptLine, 1, 0, 0xff);
    for (const bar of this.bars) {
      assert(bar.sizeBytes >= 16 && Number.isInteger(Math.log2(bar.sizeBytes)), `BAR size ${bar.sizeBytes}`);
      const offset = ConfigurationOffset.bars + 4 * bar.index;
      const addressMask = (0x1_0000_0000 - bar.sizeBytes) >>> 0;
      configuration.define(offset, 4, bar.is64Bit ? BAR_TYPE_64BIT : 0, addressMask);
      if (bar.is64Bit) configuration.define(offset + 4, 4, 0, 0xffff_ffff);
    }
  }

  #layOutCapabilities(): void {
    const { msix, expressCapabilityOffset: express } = this.#options;
    const configuration = this.configuration;
    configuration.linkCapability(msix.capabilityOffset, CAPABILITY_MSIX);
    const writable = MSIX_CONTROL_ENABLE | MSIX_CONTROL_FUNCTION_MASK;
    configuration.define(msix.capabilityOffset + 2, 2, msix.vectors - 1, writable);
    configuration.define(msix.capabilityOffset + 4, 4, msix.tableOffset | msix.bar.index);
    configuration.define(msix.capabilityOffset + 8, 4, msix.pendingOffset | msix.bar.index);

    configuration.linkCapability(express, CAPABILITY_EXPRESS);
    // Version 2, endpoint. Link registers stay zero: a virtual function's are the physical function's.
    configuration.define(express + 2, 2, 0x0002);
    const capabilities = DEVICE_CAPABILITY_FLR | DEVICE_CAPABILITY_ROLE_BASED_ERRORS | DEVICE_CAPABILITY_PAYLOAD_512;
    configuration.define(express + 4, 4, capabilities);
    configuration.define(express + EXPRESS_DEVICE_CONTROL, 2, DEVICE_CONTROL_RESET_VALUE, 0xf8ff);
    configuration.define(express + EXPRESS_DEVICE_CONTROL2, 2, 0, 0x001f);
    assert(express + 0x3c <= CONFIGURATION_BYTES, "the PCI Express capability has no room");
  }

  /** Function-level reset (PCI Express 2.0, section 6.6.2): configuration first, then the device. */
  #resetFunction(): void {
    const configuration = this.configuration;
    const express = this.#options.expressCapabilityOffset;
    configuration.set(ConfigurationOffset.command, 2, 0);
    configuration.set(ConfigurationOffset.cacheLineSize, 1, 0);
    configuration.set(ConfigurationOffset.interruptLine, 1, 0);
    for (const bar of this.bars) {
      const offset = ConfigurationOffset.bars + 4 * bar.index;
      configuration.set(offset, 4, bar.is64Bit ? BAR_TYPE_64BIT : 0);
      if (bar.is64Bit) configuration.set(offset + 4, 4, 0);
    }
    configuration.set(express + EXPRESS_DEVICE_CONTROL, 2, DEVICE_CONTROL_RESET_VALUE);
    configuration.set(express + EXPRESS_DEVICE_CONTROL2, 2, 0);
    configuration.set(this.#options.msix.capabilityOffset + 2, 2, this.msix.vectors - 1);
    this.msix.reset();
    this.#options.onFunctionLevelReset();
    this.#takeOver();
  }

  /** Makes the device follow what configuration now says. */
  #takeOver(): void {
    const configuration = this.configuration;
    const command = configuration.get(ConfigurationOffset.command, 2);
    const msixControl = configuration.get(this.#options.msix.capabilityOffset + 2, 2);
    const busMaster = (command & COMMAND_BUS_MASTER) !== 0;
    const gatesChanged = busMaster !== this.#busMaster || this.msix.enabled !== (msixControl & MSIX_CONTROL_ENABLE) > 0;
    this.#memoryDecoding = (command & COMMAND_MEMORY) !== 0;
    this.#busMaster = busMaster;
    this.msix.setControl(msixControl, busMaster);
    if (gatesChanged) this.#options.onGatesChanged();
    this.#placeBars();
  }

  #placeBars(): void {
    let moved = false;
    for (const bar of this.bars) {
      const address = this.#memoryDecoding ? this.#programmedAddress(bar) : -1;
      if (address === this.#addresses[bar.index]) continue;
      this.#addresses[bar.index] = address;
      moved = true;
    }
    if (moved) this.onBarsChanged();
  }

  /** The address in the BAR registers; -1 if it is zero or no number can hold it. */
  #programmedAddress(bar: BarDescription): number {
    const offset = ConfigurationOffset.bars + 4 * bar.index;
    const low = (this.configuration.get(offset, 4) & ~0xf) >>> 0;
    const high = bar.is64Bit ? this.configuration.get(offset + 4, 4) : 0;
    const address = high * 0x1_0000_0000 + low;
    return address === 0 || address > ADDRESS_MAX - bar.sizeBytes ? -1 : address;
  }
}
