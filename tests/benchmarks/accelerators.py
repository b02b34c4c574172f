"""Programs for TPUs and GPUs as their compilers write them, cut to what is counted."""

# A clip of one leaf: two kernels for the sum, one for the decision, one for the update. A copy of
# a counter is a kernel too; a bitcast is none. Of the loop's five runs each launches two kernels.
GPU = """HloModule jit_step, is_scheduled=true

%fused_reduce (p: f32[8192]) -> f32[64] {
  %p = f32[8192]{0} parameter(0)
  %rows = f32[64,128]{1,0} bitcast(%p)
  %zero = f32[] constant(0)
  ROOT %sums = f32[64]{0} reduce(%rows, %zero), dimensions={1}, to_apply=%add
}

%body (s: (s32[], f32[8192])) -> (s32[], f32[8192]) {
  %s = (s32[], f32[8192]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %v = f32[8192]{0} get-tuple-element(%s), index=1
  %next = s32[] fusion(%i), kind=kLoop, calls=%fused_one
  %half = f32[8192]{0} fusion(%v), kind=kLoop, calls=%fused_half
  ROOT %out = (s32[], f32[8192]{0}) tuple(%next, %half)
}

%again (s: (s32[], f32[8192])) -> pred[] {
  %s = (s32[], f32[8192]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  ROOT %less = pred[] fusion(%i), kind=kLoop, calls=%fused_less
}

%large (t: (f32[8192])) -> (f32[]) {
  %t = (f32[8192]{0}) parameter(0)
  %v = f32[8192]{0} get-tuple-element(%t), index=0
  %max = f32[] fusion(%v), kind=kInput, calls=%fused_max
  ROOT %out = (f32[]) tuple(%max)
}

%small (t: (f32[])) -> (f32[]) {
  ROOT %t = (f32[]) parameter(0)
}

ENTRY %main (p: f32[8192], g: f32[8192], n: s32[]) -> (f32[8192], s32[]) {
  %p = f32[8192]{0} parameter(0), sharding={replicated}, metadata={op_name="p[\\'a\\']"}
  %g = f32[8192]{0} parameter(1)
  %n = s32[] parameter(2)
  %part = f32[64]{0} fusion(%g), kind=kInput, calls=%fused_reduce, backend_config={"a":["0"]}
  %sum = f32[] fusion(%part), kind=kInput, calls=%fused_reduce.1
  %flag = pred[] fusion(%sum), kind=kLoop, calls=%fused_compare
  %one = (f32[]) tuple(%sum)
  %all = (f32[8192]{0}) tuple(%g)
  %rare = (f32[]) conditional(%flag, %all, %one), true_computation=%large, false_computation=%small
  %norm = f32[] get-tuple-element(%rare), index=0
  %start = (s32[], f32[8192]{0}) tuple(%n, %g)
  %loop = (s32[], f32[8192]{0}) while(%start), condition=%again, body=%body, TRIPS
  %scaled = f32[8192]{0} get-tuple-element(%loop), index=1
  %new = f32[8192]{0} fusion(%p, %scaled, %norm), kind=kLoop, calls=%fused_add
  %count = s32[] copy(%n)
  ROOT %result = (f32[8192]{0}, s32[]) tuple(%new, %count)
}
"""
KNOWN = GPU.replace("TRIPS", 'backend_config={"known_trip_count":{"n":"5"}}')
OPEN = GPU.replace(", TRIPS", "")

# Two leaves: one is brought to the chip as a whole, one in two slices. Scalars lie in SMEM.
TPU = """HloModule jit_step, is_scheduled=true

ENTRY %main (a: f32[1024], b: bf16[64,128], n: s32[]) -> (f32[1024], bf16[64,128]) {
  %a = f32[1024]{0:T(1024)} parameter(0)
  %b = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(1)
  %n = s32[]{:T(128)} parameter(2)
  %copy-start = (f32[1024]{0:T(1024)S(1)}, f32[1024]{0:T(1024)}, u32[]{:S(2)}) copy-start(%a)
  %slice-start = ((bf16[64,128]{1,0:T(8,128)(2,1)}), bf16[16,128]{1,0:T(8,128)(2,1)S(1)}, \
s32[]{:S(2)}) slice-start(%b), slice={[0:16], [0:128]}
  %slice-start.1 = ((bf16[64,128]{1,0:T(8,128)(2,1)}), bf16[48,128]{1,0:T(8,128)(2,1)S(1)}, \
s32[]{:S(2)}) slice-start(%b), slice={[16:64], [0:128]}
  %copy-done = f32[1024]{0:T(1024)S(1)} copy-done(%copy-start)
  %slice-done = bf16[16,128]{1,0:T(8,128)(2,1)S(1)} slice-done(%slice-start)
  %slice-done.1 = bf16[48,128]{1,0:T(8,128)(2,1)S(1)} slice-done(%slice-start.1)
  %whole = bf16[64,128]{1,0:T(8,128)(2,1)S(1)} custom-call(%slice-done, %slice-done.1), \
custom_call_target="ConcatBitcast"
  %sum = f32[]{:T(128)S(6)} fusion(%copy-done), kind=kLoop, calls=%fused_computation
  %root = f32[]{:T(128)S(6)} sqrt(%sum)
  %new = f32[1024]{0:T(1024)S(1)} fusion(%copy-done, %root), kind=kLoop, calls=%fused_computation.1
  %new.1 = bf16[64,128]{1,0:T(8,128)(2,1)} fusion(%whole, %root), calls=%fused_computation.2
  %copy-start.1 = (f32[1024]{0:T(1024)}, f32[1024]{0:T(1024)S(1)}, u32[]{:S(2)}) copy-start(%new)
  %copy-done.1 = f32[1024]{0:T(1024)} copy-done(%copy-start.1)
  ROOT %result = (f32[1024]{0:T(1024)}, bf16[64,128]{1,0:T(8,128)(2,1)}) tuple(%copy-done.1, %new.1)
}
""".replace("\\\n", "")
