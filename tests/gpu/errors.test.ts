import assert from "node:assert/strict";
import { type Gpu, openGpu } from "../../engine/gpu/context.ts";
import { DeviceLostError, GpuValidationError, OutOfMemoryError } from "../../engine/gpu/errors.ts";
import { compileKernel, defineKernel } from "../../engine/gpu/kernel.ts";
import { Slot } from "../../engine/gpu/pool.ts";
import { Recorder } from "../../engine/gpu/recorder.ts";
import { readSlot } from "../../engine/gpu/transfer.ts";
import { freshGpu, plainDevice } from "../gpu_device.ts";
import { addValue } from "./kernels.ts";

// A broken device stays broken, so each test opens its own; its `lost` promise outlives the test.
function gpuTest(name: string, open: () => Promise<Gpu>, body: (gpu: Gpu) => Promise<void>): void {
  Deno.test({
    name,
    sanitizeOps: false,
    fn: async () => {
      const gpu = await open();
      try {
        await body(gpu);
      } finally {
        gpu.dispose();
      }
    },
  });
}

function addRecording(gpu: Gpu, bytes = 256) {
  const recorder = new Recorder<{ groups: number }>(gpu);
  const x = recorder.pool.acquire(bytes, "x");
  const y = recorder.pool.acquire(bytes, "y");
  recorder.dispatch(addValue.variant(), { x, y }, ({ groups }) => ({
    params: { count: 64, value: 1 },
    groups: [groups, 1, 1],
  }));
  return { recorder, y };
}

gpuTest(
  "a WGSL error is thrown by check() with kernel, file, line and source line",
  freshGpu,
  async (gpu) => {
    const wrong = defineKernel({
      name: "wrong",
      file: "wrong.wgsl",
      source: '//#include "wrong_io.wgsl"\n@compute @workgroup_size(64)\nfn wrong() {\n  call_io();\n}',
      includes: {
        "wrong_io.wgsl":
          "struct Params { count: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n" +
          "fn call_io() {\n  let z: u32 = params.count * 1.5;\n}",
      },
    });
    compileKernel(gpu, wrong.variant({ TILE: 4 }));
    await assert.rejects(gpu.check(), (error: unknown) => {
      assert.ok(error instanceof GpuValidationError);
      assert.match(error.message, /^kernel wrong\(TILE=4\): wrong_io\.wgsl:4: /);
      assert.match(error.message, /let z: u32 = params\.count \* 1\.5;$/);
      return true;
    });
  },
);

gpuTest("a WGSL error is not covered up by the errors that follow from it", freshGpu, async (gpu) => {
  const broken = defineKernel({
    name: "broken",
    file: "broken.wgsl",
    source: "struct Params { count: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n" +
      "@group(0) @binding(1) var<storage, read_write> y: array<f32>;\n" +
      "@compute @workgroup_size(64)\nfn broken() { y[0] = missing; }",
  });
  const recorder = new Recorder<void>(gpu);
  const y = recorder.pool.acquire(64, "y");
  recorder.dispatch(broken.variant(), { y }, () => ({ params: { count: 1 }, groups: 1 }));
  const recording = recorder.finish(gpu);
  await assert.rejects(
    recording.run(undefined, [{ slot: y, bytes: 4 }]),
    /kernel broken\(\): broken\.wgsl:5: /,
  );
});

gpuTest("an entry point of another name is an error with the kernel's name", freshGpu, async (gpu) => {
  const misnamed = defineKernel({
    name: "misnamed",
    file: "misnamed.wgsl",
    source: "struct Params { count: u32 }\n@compute @workgroup_size(1)\nfn other() {}",
  });
  compileKernel(gpu, misnamed.variant());
  await assert.rejects(gpu.check(), /pipeline of misnamed\(\)/);
});

gpuTest("a rejected dispatch never gives numbers", freshGpu, async (gpu) => {
  const { recorder, y } = addRecording(gpu);
  const recording = recorder.finish(gpu);
  const reads = [{ slot: y, bytes: 16 }];
  assert.equal((await recording.run({ groups: 1 }, reads)).length, 1);
  // Over the device's limit, which the recorder would have caught: raise what it believes.
  (gpu.limits as { maxComputeWorkgroupsPerDimension: number }).maxComputeWorkgroupsPerDimension = 1e6;
  await assert.rejects(recording.run({ groups: 65536 }, reads), {
    name: "GpuValidationError",
    message: /^submit: /,
  });
  // and the device is not trusted again
  await assert.rejects(recording.run({ groups: 1 }, reads), GpuValidationError);
  await assert.rejects(readSlot(gpu, y, 0, 16), GpuValidationError);
});

gpuTest("a rejected bind group never gives numbers", freshGpu, async (gpu) => {
  const recorder = new Recorder<void>(gpu);
  const x = recorder.pool.acquire(1024, "x");
  const y = recorder.pool.acquire(1024, "y");
  const window = { slot: x, byteOffset: 4, bytes: 256 };
  recorder.dispatch(
    addValue.variant(),
    { x: window, y },
    () => ({ params: { count: 1, value: 0 }, groups: 1 }),
  );
  const recording = recorder.finish(gpu);
  await assert.rejects(recording.run(undefined, [{ slot: y, bytes: 16 }]), {
    name: "GpuValidationError",
    message: /^bind group of add_value\(\): /,
  });
});

gpuTest("a rejected copy in the readback itself never gives numbers", freshGpu, async (gpu) => {
  const slot = new Slot(64, "small").realize(gpu);
  await assert.rejects(readSlot(gpu, slot, 32, 64), { name: "GpuValidationError", message: /^readback: / });
});

gpuTest("an error outside every scope is not lost", freshGpu, async (gpu) => {
  gpu.device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
  await new Promise((resolve) => setTimeout(resolve, 0));
  await assert.rejects(gpu.check(), /uncaptured WebGPU error/);
});

gpuTest(
  "a buffer over the limit is an OutOfMemoryError with its size",
  () => freshGpu({ limits: { maxBufferSize: 4096 } }),
  async (gpu) => {
    assert.throws(() => new Slot(4097, "weights").realize(gpu), (error: unknown) => {
      assert.ok(error instanceof OutOfMemoryError);
      assert.equal(error.requestedBytes, 4112);
      assert.match(error.message, /buffer "weights" needs 4112 bytes, but .* allows 4096/);
      return true;
    });
    assert.equal(gpu.memory.allocatedBytes, 0);
    new Slot(4096, "weights").realize(gpu).dispose();
    await gpu.check();
  },
);

gpuTest("a lost device is a DeviceLostError, before and after it is noticed", async () => {
  return openGpu({ device: await plainDevice() });
}, async (gpu) => {
  const { recorder, y } = addRecording(gpu);
  const recording = recorder.finish(gpu);
  const run = () => recording.run({ groups: 1 }, [{ slot: y, bytes: 16 }]);
  await run();
  gpu.device.destroy();
  await assert.rejects(run(), DeviceLostError);
  await assert.rejects(run(), DeviceLostError);
  await assert.rejects(gpu.check(), DeviceLostError);
  assert.throws(() => recording.submit({ groups: 1 }), DeviceLostError);
});

for (const delay of [0, 1, 20, 60]) {
  gpuTest(
    `a device lost ${delay} ms after a step was submitted is a DeviceLostError, and all memory counts as freed`,
    async () => {
      return openGpu({ device: await plainDevice() });
    },
    async (gpu) => {
      const { recorder, y } = addRecording(gpu, 4 << 20);
      const recording = recorder.finish(gpu);
      const run = async () => {
        for (;;) await recording.run({ groups: 60_000 }, [{ slot: y, bytes: 4 << 20 }]);
      };
      const running = assert.rejects(run(), DeviceLostError);
      setTimeout(() => gpu.device.destroy(), delay);
      await running;
      recording.dispose();
      assert.equal(gpu.memory.allocatedBytes, 0);
    },
  );
}

gpuTest(
  "an injected device stays the caller's",
  async () => openGpu({ device: await plainDevice() }),
  async (gpu) => {
    gpu.dispose();
    const again = await openGpu({ device: gpu.device });
    const { recorder, y } = addRecording(again);
    const [bytes] = await recorder.finish(again).run({ groups: 1 }, [{ slot: y, bytes: 256 }]);
    assert.deepEqual([...new Float32Array(bytes.buffer)], new Array(64).fill(1));
    gpu.device.destroy();
  },
);
