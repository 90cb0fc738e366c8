export const faces = { id: "faces", title: "Faces", heading: "Faces", lede: "", paths: [], missing: () => ({ what: "Not here yet", reason: "This is being built." }), mount() {} };
