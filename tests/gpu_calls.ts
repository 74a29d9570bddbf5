/** Counts what a piece of work asks of a device. */
import type { Gpu } from "../engine/gpu/context.ts";

/** Calls by name. */
interface GpuCalls {
  /** Buffers, bind groups, pipelines, shader modules and layouts made. */
  created: number;
  submits: number;
  /** Mappings: each waits for the device. */
  maps: number;
}

const CREATORS = [
  ...["createBuffer", "createBindGroup", "createComputePipeline", "createShaderModule"],
  ...["createBindGroupLayout", "createPipelineLayout"],
] as const;

/** Runs `body` with a counter that goes on counting until it ends. */
export async function countGpuCalls<T>(gpu: Gpu, body: (calls: GpuCalls) => Promise<T>): Promise<T> {
  const calls: GpuCalls = { created: 0, submits: 0, maps: 0 };
  const restore: (() => void)[] = [];
  const watch = (object: object, name: string, count: keyof GpuCalls) => {
    const original: (...args: unknown[]) => unknown = Reflect.get(object, name);
    const own = Object.hasOwn(object, name);
    Reflect.set(object, name, function (this: unknown, ...args: unknown[]) {
      calls[count]++;
      return original.apply(this, args);
    });
    restore.push(() => {
      if (own) Reflect.set(object, name, original);
      else Reflect.deleteProperty(object, name);
    });
  };
  const { device } = gpu;
  // The implementation's own class, which needs not be the global one.
  const some = device.createBuffer({ size: 16, usage: GPUBufferUsage.COPY_DST });
  const bufferClass = Object.getPrototypeOf(some);
  some.destroy();
  for (const name of CREATORS) watch(device, name, "created");
  watch(device.queue, "submit", "submits");
  watch(bufferClass, "mapAsync", "maps");
  try {
    return await body(calls);
  } finally {
    for (const undo of restore) undo();
  }
}
