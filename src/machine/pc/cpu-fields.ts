// Where v86 keeps the CPU's registers in its wasm memory, as a table: what the saved state consists of.

export interface CpuField {
  readonly name: string;
  /** Byte address in wasm memory. */
  readonly address: number;
  readonly sizeBytes: number;
  /** The property of v86's CPU object that is a view of the same bytes; the table is held against it at start. */
  readonly view?: string;
}

const field = (name: string, address: number, sizeBytes: number, view?: string): CpuField =>
  view === undefined ? { name, address, sizeBytes } : { name, address, sizeBytes, view };

export const fpuControlWordAddress = 1036;

/**
 * The addresses are constants of v86 (src/rust/cpu/global_pointers.rs). Left out is what is not the guest's (memory
 * size, whether ACPI exists, the screen's dirty range) and what is derived (state_flags; the cached instruction pointer
 * translation `last_virt_eip` and `eip_phys`, which emptying the TLB invalidates).
 *
 * v86's own save_state has most of this, but not all: its restore_state replaces the *views* of last_result,
 * fpu_status_word and mxcsr by copies of the saved values, so the three registers keep what they were, and whatever
 * is saved from then on is the first restore's copy.
 */
export const cpuFields: readonly CpuField[] = [
  field("general registers", 64, 32, "reg32"),
  // Arithmetic flags are computed when read, from the last operation.
  field("last operation's size", 96, 4, "last_op_size"),
  field("flags not computed", 100, 4, "flags_changed"),
  field("last operand", 104, 4, "last_op1"),
  field("last result", 112, 4, "last_result"),
  field("EFLAGS", 120, 4, "flags"),
  field("segment access bytes", 512, 8, "segment_access_bytes"),
  field("APIC enabled", 548, 1, "apic_enabled"),
  field("EIP", 556, 4, "instruction_pointer"),
  field("EIP of the last instruction", 560, 4, "previous_ip"),
  field("IDTR limit", 564, 4, "idtr_size"),
  field("IDTR base", 568, 4, "idtr_offset"),
  field("GDTR limit", 572, 4, "gdtr_size"),
  field("GDTR base", 576, 4, "gdtr_offset"),
  field("control registers", 580, 32, "cr"),
  field("CPL", 612, 1, "cpl"),
  field("halted", 616, 1, "in_hlt"),
  field("SYSENTER_CS", 636, 4, "sysenter_cs"),
  field("SYSENTER_ESP", 640, 4, "sysenter_esp"),
  field("SYSENTER_EIP", 644, 4, "sysenter_eip"),
  field("prefixes", 648, 4, "prefixes"),
  field("instruction counter", 664, 4, "instruction_counter"),
  field("segment selectors", 668, 16, "sreg"),
  field("debug registers", 684, 32, "dreg"),
  field("null segments", 724, 8, "segment_is_null"),
  field("segment bases", 736, 32, "segment_offsets"),
  field("segment limits", 768, 32, "segment_limits"),
  field("protected mode", 800, 4, "protected_mode"),
  field("32-bit code", 804, 4, "is_32"),
  field("32-bit stack", 808, 4, "stack_size_32"),
  field("FPU tags", 816, 1, "fpu_stack_empty"),
  field("MXCSR", 824, 4, "mxcsr"),
  field("XMM registers", 832, 128, "reg_xmm32s"),
  field("PDPT entries", 968, 32, "reg_pdpte"),
  field("FPU top of stack", 1032, 1, "fpu_stack_ptr"),
  field("FPU control word", fpuControlWordAddress, 2, "fpu_control_word"),
  field("FPU status word", 1040, 2, "fpu_status_word"),
  field("FPU opcode", 1044, 4, "fpu_opcode"),
  field("FPU instruction pointer", 1048, 4, "fpu_ip"),
  field("FPU instruction selector", 1052, 4, "fpu_ip_selector"),
  field("FPU data pointer", 1056, 4, "fpu_dp"),
  field("FPU data selector", 1060, 4, "fpu_dp_selector"),
  field("32-bit TSS", 1128, 4, "tss_size_32"),
  field("FPU registers", 1152, 128, "fpu_st"),
];

export const cpuFieldsBytes = cpuFields.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);

/** Copies the fields out of wasm memory, one after the other in the table's order. */
export function readCpuFields(wasmMemory: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(cpuFieldsBytes);
  let at = 0;
  for (const { address, sizeBytes } of cpuFields) {
    bytes.set(wasmMemory.subarray(address, address + sizeBytes), at);
    at += sizeBytes;
  }
  return bytes;
}

export function writeCpuFields(wasmMemory: Uint8Array, bytes: Uint8Array): void {
  let at = 0;
  for (const { address, sizeBytes } of cpuFields) {
    wasmMemory.set(bytes.subarray(at, at + sizeBytes), address);
    at += sizeBytes;
  }
}
