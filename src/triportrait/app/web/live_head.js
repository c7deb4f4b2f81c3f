// A live portrait that the browser draws itself: the server sends rows of motion, the head is the one of the 3D avatar.
import { api } from "./api.js";
import { looks, Viewer } from "./viewer.js";

const METRES = 0.1, POSE_NUMBERS = 8;

export class LiveHead {
  static async open(canvas, avatar) {
    const file = await (await api(`/v1/avatars/${avatar}/avatar.glb`)).arrayBuffer();
    return new LiveHead(canvas, await Viewer.open(canvas, file));
  }

  constructor(canvas, viewer) {
    Object.assign(this, { canvas, viewer, rows: [], start_dm: null, names: [...viewer.curves.keys()] });
    canvas.hidden = false;
  }

  // A row: curves in the order of the head's own, then rotation, translation and gaze.
  take(row, pts_s) { this.rows.push({ row, pts_s }); }

  // Show the row that is due; says whether there was a new one.
  show(now_s) {
    let due = null;
    while (this.rows.length && this.rows[0].pts_s <= now_s) due = this.rows.shift().row;
    if (!due) return false;
    const count = due.length - POSE_NUMBERS, pose = due.subarray(count), translation_dm = pose.subarray(3, 6);
    this.start_dm ??= translation_dm.slice();
    const curves = Object.fromEntries(this.names.slice(0, count).map((name, i) => [name, due[i]]));
    this.viewer.setCurves({ ...curves, ...looks(pose[6], pose[7]) });
    this.viewer.setPose([...pose.subarray(0, 3)], [...translation_dm].map((value, i) => (value - this.start_dm[i]) * METRES));
    return true;
  }

  close() {
    this.viewer.close();
    this.canvas.hidden = true;
  }
}
