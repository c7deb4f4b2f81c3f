// A viewer for the heads of `triportrait export`: binary glTF 2.0 with unlit materials, blendshapes as sparse accessors, and bones.
// It reads what those files have and no more, which takes a hundredth of a general 3D library. Blendshapes are added here, for only a
// few curves differ from zero at a time; bones move in the vertex shader.

const VERTEX = `#version 300 es
in vec3 position; in vec2 place; in vec4 colour; in uvec4 joints; in vec4 weights;
uniform mat4 camera; uniform mat3x4 bones[64];
out vec2 at; out vec4 tint;
void main() {
  mat3x4 moved = weights.x * bones[joints.x] + weights.y * bones[joints.y] + weights.z * bones[joints.z] + weights.w * bones[joints.w];
  gl_Position = camera * vec4(vec4(position, 1.0) * moved, 1.0);
  at = place; tint = colour;
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec2 at; in vec4 tint;
uniform sampler2D picture; uniform bool isPainted; uniform float cutoff;
out vec4 shown;
void main() {
  // Pictures are sRGB as the screen is; colours of vertices are linear.
  vec4 colour = vec4(pow(tint.rgb, vec3(1.0 / 2.2)), tint.a) * (isPainted ? texture(picture, at) : vec4(1.0));
  // The outline covers a pixel as far as its slope says, which the samples of the canvas smooth.
  float covered = cutoff > 0.0 ? clamp((colour.a - cutoff) / max(fwidth(colour.a), 1e-4) + 0.5, 0.0, 1.0) : 1.0;
  if (covered <= 0.0) discard;
  shown = vec4(colour.rgb, covered);
}`;
const MOST_BONES = 64;
// glTF's numbers of component types, and how many components a type has.
const KINDS = { 5121: Uint8Array, 5123: Uint16Array, 5125: Uint32Array, 5126: Float32Array };
const WIDTHS = { SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4, MAT4: 16 };
const PLACES = { POSITION: "position", TEXCOORD_0: "place", COLOR_0: "colour", JOINTS_0: "joints", WEIGHTS_0: "weights" };
const VIEW_RAD = 0.48, NEAREST_M = 0.25, FARTHEST_M = 1.6, USUAL_M = 0.78;
// What the photo never saw is a guess; the view stays on the side of the face.
const WIDEST_YAW_RAD = 1.2, WIDEST_PITCH_RAD = 0.6;
const DRAG_RAD = 0.006, CLOSER = 0.9;
const GLTF_MAGIC = 0x46546c67;

// 4 x 4 matrices, column by column.
const times = (a, b) => {
  const out = new Float32Array(16);
  for (let c = 0; c < 4; c += 1) {
    for (let r = 0; r < 4; r += 1) for (let k = 0; k < 4; k += 1) out[4 * c + r] += a[4 * k + r] * b[4 * c + k];
  }
  return out;
};
// A quaternion (x, y, z, w).
const turned = ([x, y, z, w]) => new Float32Array([
  1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w), 0,
  2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w), 0,
  2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y), 0, 0, 0, 0, 1,
]);
const shift = ([x, y, z]) => new Float32Array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, x, y, z, 1]);
// Rz(roll) Ry(yaw) Rx(pitch), as everywhere in TriPortrait.
const turn = ([pitch, yaw, roll]) => {
  const [sx, sy, sz] = [pitch, yaw, roll].map(Math.sin), [cx, cy, cz] = [pitch, yaw, roll].map(Math.cos);
  return new Float32Array([
    cz * cy, sz * cy, -sy, 0, cz * sy * sx - sz * cx, sz * sy * sx + cz * cx, cy * sx, 0,
    cz * sy * cx + sz * sx, sz * sy * cx - cz * sx, cy * cx, 0, 0, 0, 0, 1,
  ]);
};
const perspective = (view_rad, aspect, near, far) => {
  const f = 1 / Math.tan(view_rad / 2);
  return new Float32Array([
    f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), -1, 0, 0, (2 * far * near) / (near - far), 0,
  ]);
};

function chunksOf(buffer) {
  const view = new DataView(buffer);
  if (view.getUint32(0, true) !== GLTF_MAGIC) throw new Error("no binary glTF");
  const size = view.getUint32(12, true);
  return [JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 20, size))), buffer.slice(28 + size)];
}

// Curves of the eyes for a gaze (pitch, yaw); one of them at 1 stands for so many radians.
const UP_RAD = 0.5, ASIDE_RAD = 0.6;
export function looks(pitch, yaw) {
  const left = Math.max(yaw, 0) / ASIDE_RAD, right = Math.max(-yaw, 0) / ASIDE_RAD;
  const up = Math.max(pitch, 0) / UP_RAD, down = Math.max(-pitch, 0) / UP_RAD;
  return {
    eyeLookUpLeft: up, eyeLookUpRight: up, eyeLookDownLeft: down, eyeLookDownRight: down,
    eyeLookOutLeft: left, eyeLookInRight: left, eyeLookInLeft: right, eyeLookOutRight: right,
  };
}

export class Viewer {
  // Show the head of a GLB file (ArrayBuffer) in a canvas, from all around or from the side of the face alone. Throws where there is no
  // WebGL, or the file is another.
  static async open(canvas, buffer, { isAllAround = false } = {}) {
    const gl = canvas.getContext("webgl2", { antialias: true, alpha: false });
    if (!gl) throw new Error("no WebGL");
    const [tree, data] = chunksOf(buffer), viewer = new Viewer(canvas, gl, tree, data);
    viewer.isAllAround = isAllAround;
    await viewer.loadPictures();
    return viewer;
  }

  constructor(canvas, gl, tree, data) {
    Object.assign(this, { canvas, gl, tree, data });
    // The first mesh has the blendshapes; what belongs to the body has none.
    this.curves = new Map(tree.meshes[0].extras.targetNames.map((name, index) => [name, index]));
    this.amounts = new Float32Array(this.curves.size);
    this.program = this.compile();
    this.parts = tree.meshes.flatMap((mesh) => mesh.primitives.map((primitive) => this.partOf(primitive)));
    this.triangles = this.parts.reduce((sum, part) => sum + part.count / 3, 0);
    this.skin = tree.skins[0];
    if (this.skin.joints.length > MOST_BONES) throw new Error("too many bones");
    this.backwards = this.accessor(this.skin.inverseBindMatrices);
    this.rotation_rad = [0, 0, 0];
    this.translation_m = [0, 0, 0];
    this.front();
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(canvas);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.onchange = () => this.draw();
  }

  compile() {
    const { gl } = this, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    return program;
  }

  bytes(index, Kind, count) {
    const view = this.tree.bufferViews[index];
    return new Kind(this.data, view.byteOffset ?? 0, count ?? view.byteLength / Kind.BYTES_PER_ELEMENT);
  }

  accessor(index) {
    const { bufferView, componentType, count, type } = this.tree.accessors[index], Kind = KINDS[componentType];
    return bufferView === undefined ? new Kind(count * WIDTHS[type]) : this.bytes(bufferView, Kind, count * WIDTHS[type]);
  }

  // A blendshape: which vertices it moves, and how far.
  displacement(index) {
    const { sparse, bufferView, count } = this.tree.accessors[index];
    if (!sparse && bufferView === undefined) return { which: [], how: [] };
    if (!sparse) return { which: Uint32Array.from({ length: count }, (_, i) => i), how: this.accessor(index) };
    const { indices, values } = sparse;
    return {
      which: this.bytes(indices.bufferView, KINDS[indices.componentType], sparse.count),
      how: this.bytes(values.bufferView, Float32Array, 3 * sparse.count),
    };
  }

  partOf({ attributes, indices, material, targets = [] }) {
    const { gl } = this, array = gl.createVertexArray();
    const displacements = targets.map((target) => this.displacement(target.POSITION)), buffers = [gl.createBuffer()], [edges] = buffers;
    const part = { array, buffers, rest: null, now: null, buffer: null, displacements, material: this.tree.materials[material] };
    gl.bindVertexArray(array);
    for (const [name, index] of Object.entries(attributes)) {
      const values = this.accessor(index), place = gl.getAttribLocation(this.program, PLACES[name]);
      const { type, componentType, normalized = false } = this.tree.accessors[index];
      if (place < 0) continue;
      const buffer = gl.createBuffer();
      buffers.push(buffer);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, values, name === "POSITION" ? gl.DYNAMIC_DRAW : gl.STATIC_DRAW);
      gl.enableVertexAttribArray(place);
      if (name === "JOINTS_0") gl.vertexAttribIPointer(place, 4, componentType, 0, 0);
      else gl.vertexAttribPointer(place, WIDTHS[type], componentType, normalized, 0, 0);
      if (name === "POSITION") Object.assign(part, { rest: values, now: values.slice(), buffer });
    }
    const corners = this.accessor(indices);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, edges);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, corners, gl.STATIC_DRAW);
    gl.bindVertexArray(null);
    return Object.assign(part, { count: corners.length, kind: corners instanceof Uint32Array ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT });
  }

  async loadPictures() {
    const { gl, tree } = this;
    this.pictures = await Promise.all(tree.textures.map(async ({ source }) => {
      const { bufferView, mimeType } = tree.images[source], blob = new Blob([this.bytes(bufferView, Uint8Array)], { type: mimeType });
      const image = await createImageBitmap(blob, { premultiplyAlpha: "none", colorSpaceConversion: "none" }), texture = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
      gl.generateMipmap(gl.TEXTURE_2D);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
      for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
      image.close();
      return texture;
    }));
    this.draw();
  }

  // Curves by their names, 0 to 1; those that are not named keep their amount.
  setCurves(curves) {
    for (const [name, amount] of Object.entries(curves)) if (this.curves.has(name)) this.amounts[this.curves.get(name)] = amount;
    this.isStale = true;
    this.draw();
  }

  rest() {
    this.amounts.fill(0);
    this.setPose([0, 0, 0], [0, 0, 0]);
    this.setCurves({});
  }

  // The head's rotation (pitch, yaw, roll in radians) and translation (metres).
  setPose(rotation_rad, translation_m) {
    Object.assign(this, { rotation_rad, translation_m });
    this.draw();
  }

  front() {
    Object.assign(this, { yaw_rad: 0, pitch_rad: 0, distance_m: USUAL_M });
    this.draw();
  }

  orbit(yaw_rad, pitch_rad, closer = 1) {
    const within = (value, most) => Math.min(Math.max(value, -most), most);
    this.yaw_rad = within(this.yaw_rad + yaw_rad, this.isAllAround ? Infinity : WIDEST_YAW_RAD);
    this.pitch_rad = within(this.pitch_rad + pitch_rad, WIDEST_PITCH_RAD);
    this.distance_m = Math.min(Math.max(this.distance_m * closer, NEAREST_M), FARTHEST_M);
    this.draw();
  }

  // Several changes make one picture.
  draw() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => { this.isDue = false; if (this.pictures && !this.gl.isContextLost()) this.paint(); });
  }

  deform() {
    for (const part of this.parts.filter(({ displacements }) => displacements.length)) {
      part.now.set(part.rest);
      this.amounts.forEach((amount, curve) => {
        if (!amount) return;
        const { which, how } = part.displacements[curve], { now } = part;
        for (let i = 0; i < which.length; i += 1) for (let c = 0; c < 3; c += 1) now[3 * which[i] + c] += amount * how[3 * i + c];
      });
      this.gl.bindBuffer(this.gl.ARRAY_BUFFER, part.buffer);
      this.gl.bufferSubData(this.gl.ARRAY_BUFFER, 0, part.now);
    }
    this.isStale = false;
  }

  // Where each node is, as a matrix.
  places() {
    const { nodes, scenes } = this.tree, world = new Map();
    const walk = (index, above) => {
      const { name, translation = [0, 0, 0], rotation, children = [] } = nodes[index];
      let place = times(above, shift(translation));
      if (rotation) place = times(place, turned(rotation));
      if (name === "Head") {
        // The camera looks at the head's place at rest.
        this.middle = [place[12], place[13], place[14]];
        place = times(times(place, shift(this.translation_m)), turn(this.rotation_rad));
      }
      world.set(index, place);
      for (const child of children) walk(child, place);
    };
    for (const root of scenes[0].nodes) walk(root, shift([0, 0, 0]));
    return world;
  }

  // What moves each bone's skin from where it was bound: three rows of four numbers.
  bones() {
    const world = this.places(), { joints } = this.skin, out = new Float32Array(12 * joints.length);
    joints.forEach((joint, i) => {
      const moved = times(world.get(joint), this.backwards.subarray(16 * i, 16 * i + 16));
      for (let row = 0; row < 3; row += 1) {
        for (let column = 0; column < 4; column += 1) out[12 * i + 4 * row + column] = moved[4 * column + row];
      }
    });
    return out;
  }

  paint() {
    const { gl, canvas, program } = this, ratio = Math.min(devicePixelRatio || 1, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.max(1, Math.round(side * ratio)));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    if (this.isStale) this.deform();
    gl.viewport(0, 0, width, height);
    // What stands behind the head is the page's own colour, dark or light.
    const ground = getComputedStyle(canvas.parentElement).backgroundColor.match(/[\d.]+/g).map((value) => value / 255);
    gl.clearColor(ground[0], ground[1], ground[2], 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.SAMPLE_ALPHA_TO_COVERAGE);
    gl.useProgram(program);
    gl.uniformMatrix3x4fv(gl.getUniformLocation(program, "bones"), false, this.bones());
    // The camera looks at the head from a point on a sphere round it.
    const orbit = times(shift([0, 0, -this.distance_m]), times(turn([this.pitch_rad, 0, 0]), turn([0, this.yaw_rad, 0])));
    const camera = times(perspective(VIEW_RAD, width / height, 0.05, 5), times(orbit, shift(this.middle.map((value) => -value))));
    gl.uniformMatrix4fv(gl.getUniformLocation(program, "camera"), false, camera);
    // Parts without colours of their own are white.
    gl.vertexAttrib4f(gl.getAttribLocation(program, "colour"), 1, 1, 1, 1);
    for (const { array, count, kind, material } of this.parts) {
      const picture = material.pbrMetallicRoughness.baseColorTexture;
      gl.uniform1i(gl.getUniformLocation(program, "isPainted"), picture ? 1 : 0);
      gl.uniform1f(gl.getUniformLocation(program, "cutoff"), material.alphaMode === "MASK" ? material.alphaCutoff ?? 0.5 : 0);
      if (picture) gl.bindTexture(gl.TEXTURE_2D, this.pictures[picture.index]);
      if (material.doubleSided) gl.disable(gl.CULL_FACE); else gl.enable(gl.CULL_FACE);
      gl.bindVertexArray(array);
      gl.drawElements(gl.TRIANGLES, count, kind, 0);
    }
    gl.bindVertexArray(null);
  }

  // Give the graphics memory back; the canvas can show another head afterwards.
  close() {
    const { gl } = this;
    this.watcher.disconnect();
    this.scheme.onchange = null;
    for (const { array, buffers } of this.parts) { gl.deleteVertexArray(array); for (const buffer of buffers) gl.deleteBuffer(buffer); }
    for (const picture of this.pictures ?? []) gl.deleteTexture(picture);
    gl.deleteProgram(this.program);
    this.pictures = null;
  }
}

// Turn what `viewerOf()` gives by a finger or a mouse on the canvas; two fingers and the wheel come closer.
export function followHand(canvas, viewerOf) {
  const fingers = new Map();
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, event); });
  const spread = () => { const [a, b] = fingers.values(); return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId), viewer = viewerOf();
    if (!before || !viewer) return;
    const wide = fingers.size === 2 ? spread() : 0;
    fingers.set(event.pointerId, event);
    if (fingers.size === 2) viewer.orbit(0, 0, wide / Math.max(spread(), 1));
    else viewer.orbit((event.clientX - before.clientX) * DRAG_RAD, (event.clientY - before.clientY) * DRAG_RAD);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
  const closer = (event) => { event.preventDefault(); viewerOf()?.orbit(0, 0, event.deltaY < 0 ? CLOSER : 1 / CLOSER); };
  canvas.addEventListener("wheel", closer, { passive: false });
}
