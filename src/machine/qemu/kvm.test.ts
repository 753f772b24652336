import assert from "node:assert/strict";
import { test } from "node:test";
import { hasVirtualization } from "./kvm.ts";

test("a processor that offers VMX or SVM can run guests; one that only is a guest, or says nothing, cannot", () => {
  assert.equal(hasVirtualization("processor\t: 0\nflags\t\t: fpu vme vmx hypervisor\nvmx flags\t: vnmi\n"), true);
  assert.equal(hasVirtualization("flags : fpu svm\n"), true);
  assert.equal(hasVirtualization("flags\t\t: fpu vme hypervisor svm_lock\nvmx flags\t: vmx\n"), false);
  assert.equal(hasVirtualization(""), false);
});
