"""Pictures and clips of tracks, panels, curves: NumPy in, arrays or bytes out.

    tracks     trajectories with fading trails over frames
    panels     labelled panels side by side: history | prediction | truth
    media      arrays to WebP, GIF, mp4, PNG bytes with provenance inside
    curves     loss curves, comparisons with intervals, small multiples (SVG or PNG)
    heat       maps as colours over frames
    attention  a word's map as a film, the maps of all blocks as a grid
    sheets     contact sheets of captioned pictures
    camera_motion      tracks of a clip and its camera's speeds over time
    location_variance  what the place of tracks explains, as bars and maps
    canvas     resizing, text and the colours that the others share

Nothing here touches an accelerator, a screen or the network.
"""
