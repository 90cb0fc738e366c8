export const contours = { id: "contours", title: "Contours", heading: "Contours", lede: "", paths: [], missing: () => ({ what: "Not here yet", reason: "This is being built." }), mount() {} };
