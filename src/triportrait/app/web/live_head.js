// A live portrait that the browser draws itself: the server sends rows of motion, the head is the one of the 3D avatar.
import { api } from "./api.js";
import { looks, Viewer } from "./viewer.js";

const METRES = 0.1, POSE_NUMBERS = 8;
// Rows older than this are never shown: a tab that is hidden draws nothing.
const KEPT_S = 1;

export class LiveHead {
  static async open(canvas, avatar) {
    const file = await (await api(`/v1/avatars/${avatar}/avatar.glb`)).arrayBuffer();
    return new LiveHead(canvas, await Viewer.open(canvas, file));
  }

  constructor(canvas, viewer) {
    Object.assign(this, { canvas, viewer, rows: [], start_dm: null, names: [] });
    canvas.hidden = false;
  }

  // A row: curves in the order of `names`, which the server tells when the session begins; then rotation, translation and gaze.
  take(row, pts_s) {
    this.rows.push({ row, pts_s });
    while (this.rows[0].pts_s < pts_s - KEPT_S) this.rows.shift();
  }

  // Show the row that is due; says whether there was a new one.
  show(now_s) {
    let due = null;
    while (this.rows.length && this.rows[0].pts_s <= now_s) due = this.rows.shift().row;
    if (!due) return false;
    const count = due.length - POSE_NUMBERS, pose = due.subarray(count), translation_dm = pose.subarray(3, 6);
    this.start_dm ??= translation_dm.slice();
    const curves = Object.fromEntries(this.names.slice(0, count).map((name, i) => [name, due[i]]));
    const moved_m = [...translation_dm].map((value, i) => (value - this.start_dm[i]) * METRES);
    this.viewer.setCurves({ ...curves, ...looks(pose[6], pose[7]) });
    this.viewer.setPose([...pose.subarray(0, 3)], moved_m);
    return true;
  }

  close() {
    this.viewer.close();
    this.canvas.hidden = true;
  }
}
