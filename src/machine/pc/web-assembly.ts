// The part of the WebAssembly JavaScript interface in use here, typed: the compiler's library of web types is not loaded.

export type WasmExports = Record<string, unknown>;

/** A compiled module, shared by the machines of one process. */
export interface WasmCompiledModule {
  readonly [Symbol.toStringTag]: string;
}

export interface WasmMemory {
  /** Another buffer after each growth. */
  readonly buffer: ArrayBuffer;
}

export interface WasmGlobal {
  value: number;
}

interface WebAssemblyApi {
  validate(bytes: Uint8Array<ArrayBuffer>): boolean;
  compile(bytes: Uint8Array<ArrayBuffer>): Promise<WasmCompiledModule>;
  instantiate(module: WasmCompiledModule, imports: object): Promise<{ readonly exports: WasmExports }>;
}

export const webAssembly = (globalThis as unknown as { readonly WebAssembly: WebAssemblyApi }).WebAssembly;
