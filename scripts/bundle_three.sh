#!/bin/sh
# Makes src/triportrait/export/web/three.min.js: what the exported page needs of three.js, in one file, with its licence at the top.
# Needs node and npm; run it in an empty folder: sh bundle_three.sh TARGET
set -eu
npm install --prefix . --no-save three@0.187.0 esbuild@0.28.2
cat > entry.js <<'JS'
export { PerspectiveCamera, Scene, Vector3, WebGLRenderer } from 'three';
export { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
export { OrbitControls } from 'three/addons/controls/OrbitControls.js';
JS
{
  printf '/*\n three.js r187 (https://threejs.org): the renderer, GLTFLoader and OrbitControls, bundled and minified by scripts/bundle_three.sh.\n'
  sed 's/^/ /' node_modules/three/LICENSE
  printf '*/\n'
} > "$1"
node_modules/.bin/esbuild entry.js --bundle --minify --format=iife --global-name=THREE --legal-comments=none >> "$1"
